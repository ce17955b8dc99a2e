(func $f32_matmul (param $args i32) (param $begin i32) (param $end i32)
  (local $$0 i32)
  (local $$1 i32)
  (local $$2 i32)
  (local $$3 i32)
  (local $p i32)
  (local $n.o i32)
  (local $$1.1 i32)
  (local $$3.1 i32)
  (local $$2.1 i32)
  (local $$0.m.o i32)
  (local $$3.m.o i32)
  (local $m.o i32)
  (local $acc0.1.4 v128)
  (local $acc0.0.0 v128)
  (local $acc0.0.4 v128)
  (local $acc0.1.0 v128)
  (local $$0.k i32)
  (local $$1.k i32)
  (local $k i32)
  (local (;22;) v128)
  (local (;23;) v128)
  (local $acc0.4.0 v128)
  (local (;25;) v128)
  (;@0000;) local.get $args
  (;@0002;) i32.load
  (;@0005;) local.set $$0
  (;@0007;) local.get $args
  (;@0009;) i32.load offset=4
  (;@000c;) local.set $$1
  (;@000e;) local.get $args
  (;@0010;) i32.load offset=8
  (;@0013;) local.set $$2
  (;@0015;) local.get $args
  (;@0017;) i32.load offset=12
  (;@001a;) local.set $$3
  (;@001c;) local.get $begin
  (;@001e;) local.set $p
  (;@0020;) block (;@1;)
  (;@0022;)   local.get $p
  (;@0024;)   local.get $end
  (;@0026;)   i32.ge_s
  (;@0027;)   br_if 0 (;@1;)
  (;@0029;)   loop (;@2;)
  (;@002b;)     local.get $p
  (;@002d;)     i32.const 2
  (;@002f;)     i32.rem_u
  (;@0030;)     local.set $n.o
  (;@0032;)     local.get $$1
  (;@0034;)     local.get $n.o
  (;@0036;)     i32.const 224
  (;@0039;)     i32.mul
  (;@003a;)     i32.add
  (;@003b;)     local.set $$1.1
  (;@003d;)     local.get $$3
  (;@003f;)     local.get $n.o
  (;@0041;)     i32.const 32
  (;@0043;)     i32.mul
  (;@0044;)     i32.add
  (;@0045;)     local.set $$3.1
  (;@0047;)     local.get $$2
  (;@0049;)     local.get $n.o
  (;@004b;)     i32.const 32
  (;@004d;)     i32.mul
  (;@004e;)     i32.add
  (;@004f;)     local.set $$2.1
  (;@0051;)     local.get $n.o
  (;@0053;)     i32.const 1
  (;@0055;)     i32.lt_s
  (;@0056;)     if (;@3;)
  (;@0058;)       local.get $$0
  (;@005a;)       local.set $$0.m.o
  (;@005c;)       local.get $$3.1
  (;@005e;)       local.set $$3.m.o
  (;@0060;)       i32.const 0
  (;@0062;)       local.set $m.o
  (;@0064;)       loop (;@4;)
  (;@0066;)         v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@0078;)         local.tee $acc0.1.4
  (;@007a;)         local.set $acc0.0.0
  (;@007c;)         local.get $acc0.1.4
  (;@007e;)         local.set $acc0.0.4
  (;@0080;)         local.get $acc0.1.4
  (;@0082;)         local.set $acc0.1.0
  (;@0084;)         local.get $acc0.1.4
  (;@0086;)         local.set $acc0.1.4
  (;@0088;)         local.get $$0.m.o
  (;@008a;)         local.set $$0.k
  (;@008c;)         local.get $$1.1
  (;@008e;)         local.set $$1.k
  (;@0090;)         i32.const 0
  (;@0092;)         local.set $k
  (;@0094;)         loop (;@5;)
  (;@0096;)           local.get $$0.k
  (;@0098;)           v128.load32_splat
  (;@009c;)           local.tee 22
  (;@009e;)           local.get $$1.k
  (;@00a0;)           v128.load align=4
  (;@00a4;)           local.tee 23
  (;@00a6;)           local.get $acc0.0.0
  (;@00a8;)           f32x4.relaxed_madd
  (;@00ab;)           local.set $acc0.0.0
  (;@00ad;)           local.get 22
  (;@00af;)           local.get $$1.k
  (;@00b1;)           v128.load offset=16 align=4
  (;@00b5;)           local.tee 22
  (;@00b7;)           local.get $acc0.0.4
  (;@00b9;)           f32x4.relaxed_madd
  (;@00bc;)           local.set $acc0.0.4
  (;@00be;)           local.get $$0.k
  (;@00c0;)           v128.load32_splat offset=28
  (;@00c4;)           local.tee $acc0.4.0
  (;@00c6;)           local.get 23
  (;@00c8;)           local.get $acc0.1.0
  (;@00ca;)           f32x4.relaxed_madd
  (;@00cd;)           local.set $acc0.1.0
  (;@00cf;)           local.get $acc0.4.0
  (;@00d1;)           local.get 22
  (;@00d3;)           local.get $acc0.1.4
  (;@00d5;)           f32x4.relaxed_madd
  (;@00d8;)           local.set $acc0.1.4
  (;@00da;)           local.get $$0.k
  (;@00dc;)           v128.load32_splat offset=4
  (;@00e0;)           local.tee 22
  (;@00e2;)           local.get $$1.k
  (;@00e4;)           v128.load offset=32 align=4
  (;@00e8;)           local.tee $acc0.4.0
  (;@00ea;)           local.get $acc0.0.0
  (;@00ec;)           f32x4.relaxed_madd
  (;@00ef;)           local.set $acc0.0.0
  (;@00f1;)           local.get 22
  (;@00f3;)           local.get $$1.k
  (;@00f5;)           v128.load offset=48 align=4
  (;@00f9;)           local.tee 22
  (;@00fb;)           local.get $acc0.0.4
  (;@00fd;)           f32x4.relaxed_madd
  (;@0100;)           local.set $acc0.0.4
  (;@0102;)           local.get $$0.k
  (;@0104;)           v128.load32_splat offset=32
  (;@0108;)           local.tee 23
  (;@010a;)           local.get $acc0.4.0
  (;@010c;)           local.get $acc0.1.0
  (;@010e;)           f32x4.relaxed_madd
  (;@0111;)           local.set $acc0.1.0
  (;@0113;)           local.get 23
  (;@0115;)           local.get 22
  (;@0117;)           local.get $acc0.1.4
  (;@0119;)           f32x4.relaxed_madd
  (;@011c;)           local.set $acc0.1.4
  (;@011e;)           local.get $$0.k
  (;@0120;)           i32.const 8
  (;@0122;)           i32.add
  (;@0123;)           local.set $$0.k
  (;@0125;)           local.get $$1.k
  (;@0127;)           i32.const 64
  (;@012a;)           i32.add
  (;@012b;)           local.set $$1.k
  (;@012d;)           local.get $k
  (;@012f;)           i32.const 1
  (;@0131;)           i32.add
  (;@0132;)           local.set $k
  (;@0134;)           local.get $k
  (;@0136;)           i32.const 3
  (;@0138;)           i32.lt_s
  (;@0139;)           br_if 0 (;@5;)
  (;@013b;)         end
  (;@013c;)         local.get $$0.m.o
  (;@013e;)         v128.load32_splat offset=24
  (;@0142;)         local.tee 22
  (;@0144;)         local.get $$1.1
  (;@0146;)         v128.load offset=192 align=4
  (;@014b;)         local.tee 23
  (;@014d;)         local.get $acc0.0.0
  (;@014f;)         f32x4.relaxed_madd
  (;@0152;)         local.set $acc0.0.0
  (;@0154;)         local.get 22
  (;@0156;)         local.get $$1.1
  (;@0158;)         v128.load offset=208 align=4
  (;@015d;)         local.tee 22
  (;@015f;)         local.get $acc0.0.4
  (;@0161;)         f32x4.relaxed_madd
  (;@0164;)         local.set $acc0.0.4
  (;@0166;)         local.get $$0.m.o
  (;@0168;)         v128.load32_splat offset=52
  (;@016c;)         local.tee $acc0.4.0
  (;@016e;)         local.get 23
  (;@0170;)         local.get $acc0.1.0
  (;@0172;)         f32x4.relaxed_madd
  (;@0175;)         local.set $acc0.1.0
  (;@0177;)         local.get $acc0.4.0
  (;@0179;)         local.get 22
  (;@017b;)         local.get $acc0.1.4
  (;@017d;)         f32x4.relaxed_madd
  (;@0180;)         local.set $acc0.1.4
  (;@0182;)         local.get $acc0.0.0
  (;@0184;)         local.get $$2.1
  (;@0186;)         v128.load align=4
  (;@018a;)         local.tee 22
  (;@018c;)         f32x4.add
  (;@018f;)         v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@01a1;)         local.tee $acc0.4.0
  (;@01a3;)         f32x4.pmax
  (;@01a6;)         local.set 23
  (;@01a8;)         local.get $$3.m.o
  (;@01aa;)         local.get 23
  (;@01ac;)         v128.store align=4
  (;@01b0;)         local.get $acc0.0.4
  (;@01b2;)         local.get $$2.1
  (;@01b4;)         v128.load offset=16 align=4
  (;@01b8;)         local.tee 23
  (;@01ba;)         f32x4.add
  (;@01bd;)         local.get $acc0.4.0
  (;@01bf;)         f32x4.pmax
  (;@01c2;)         local.set 25
  (;@01c4;)         local.get $$3.m.o
  (;@01c6;)         local.get 25
  (;@01c8;)         v128.store offset=16 align=4
  (;@01cc;)         local.get $acc0.1.0
  (;@01ce;)         local.get 22
  (;@01d0;)         f32x4.add
  (;@01d3;)         local.get $acc0.4.0
  (;@01d5;)         f32x4.pmax
  (;@01d8;)         local.set 22
  (;@01da;)         local.get $$3.m.o
  (;@01dc;)         local.get 22
  (;@01de;)         v128.store offset=44 align=4
  (;@01e2;)         local.get $acc0.1.4
  (;@01e4;)         local.get 23
  (;@01e6;)         f32x4.add
  (;@01e9;)         local.get $acc0.4.0
  (;@01eb;)         f32x4.pmax
  (;@01ee;)         local.set $acc0.4.0
  (;@01f0;)         local.get $$3.m.o
  (;@01f2;)         local.get $acc0.4.0
  (;@01f4;)         v128.store offset=60 align=4
  (;@01f8;)         local.get $$0.m.o
  (;@01fa;)         i32.const 56
  (;@01fc;)         i32.add
  (;@01fd;)         local.set $$0.m.o
  (;@01ff;)         local.get $$3.m.o
  (;@0201;)         i32.const 88
  (;@0204;)         i32.add
  (;@0205;)         local.set $$3.m.o
  (;@0207;)         local.get $m.o
  (;@0209;)         i32.const 1
  (;@020b;)         i32.add
  (;@020c;)         local.set $m.o
  (;@020e;)         local.get $m.o
  (;@0210;)         i32.const 2
  (;@0212;)         i32.lt_s
  (;@0213;)         br_if 0 (;@4;)
  (;@0215;)       end
  (;@0216;)       v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@0228;)       local.tee $acc0.4.0
  (;@022a;)       local.set $acc0.0.0
  (;@022c;)       local.get $acc0.4.0
  (;@022e;)       local.set $acc0.4.0
  (;@0230;)       local.get $$0
  (;@0232;)       local.set $m.o
  (;@0234;)       local.get $$1.1
  (;@0236;)       local.set $$3.m.o
  (;@0238;)       i32.const 0
  (;@023a;)       local.set $$0.m.o
  (;@023c;)       loop (;@4;)
  (;@023e;)         local.get $m.o
  (;@0240;)         v128.load32_splat offset=112
  (;@0244;)         local.tee 23
  (;@0246;)         local.get $$3.m.o
  (;@0248;)         v128.load align=4
  (;@024c;)         local.get $acc0.0.0
  (;@024e;)         f32x4.relaxed_madd
  (;@0251;)         local.set $acc0.0.0
  (;@0253;)         local.get 23
  (;@0255;)         local.get $$3.m.o
  (;@0257;)         v128.load offset=16 align=4
  (;@025b;)         local.get $acc0.4.0
  (;@025d;)         f32x4.relaxed_madd
  (;@0260;)         local.set $acc0.4.0
  (;@0262;)         local.get $m.o
  (;@0264;)         v128.load32_splat offset=116
  (;@0268;)         local.tee 23
  (;@026a;)         local.get $$3.m.o
  (;@026c;)         v128.load offset=32 align=4
  (;@0270;)         local.get $acc0.0.0
  (;@0272;)         f32x4.relaxed_madd
  (;@0275;)         local.set $acc0.0.0
  (;@0277;)         local.get 23
  (;@0279;)         local.get $$3.m.o
  (;@027b;)         v128.load offset=48 align=4
  (;@027f;)         local.get $acc0.4.0
  (;@0281;)         f32x4.relaxed_madd
  (;@0284;)         local.set $acc0.4.0
  (;@0286;)         local.get $m.o
  (;@0288;)         i32.const 8
  (;@028a;)         i32.add
  (;@028b;)         local.set $m.o
  (;@028d;)         local.get $$3.m.o
  (;@028f;)         i32.const 64
  (;@0292;)         i32.add
  (;@0293;)         local.set $$3.m.o
  (;@0295;)         local.get $$0.m.o
  (;@0297;)         i32.const 1
  (;@0299;)         i32.add
  (;@029a;)         local.set $$0.m.o
  (;@029c;)         local.get $$0.m.o
  (;@029e;)         i32.const 3
  (;@02a0;)         i32.lt_s
  (;@02a1;)         br_if 0 (;@4;)
  (;@02a3;)       end
  (;@02a4;)       local.get $$0
  (;@02a6;)       v128.load32_splat offset=136
  (;@02ab;)       local.tee 23
  (;@02ad;)       local.get $$1.1
  (;@02af;)       v128.load offset=192 align=4
  (;@02b4;)       local.get $acc0.0.0
  (;@02b6;)       f32x4.relaxed_madd
  (;@02b9;)       local.set $acc0.0.0
  (;@02bb;)       local.get 23
  (;@02bd;)       local.get $$1.1
  (;@02bf;)       v128.load offset=208 align=4
  (;@02c4;)       local.get $acc0.4.0
  (;@02c6;)       f32x4.relaxed_madd
  (;@02c9;)       local.set $acc0.4.0
  (;@02cb;)       local.get $acc0.0.0
  (;@02cd;)       local.get $$2.1
  (;@02cf;)       v128.load align=4
  (;@02d3;)       f32x4.add
  (;@02d6;)       v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@02e8;)       local.tee 23
  (;@02ea;)       f32x4.pmax
  (;@02ed;)       local.set 22
  (;@02ef;)       local.get $$3.1
  (;@02f1;)       local.get 22
  (;@02f3;)       v128.store offset=176 align=4
  (;@02f8;)       local.get $acc0.4.0
  (;@02fa;)       local.get $$2.1
  (;@02fc;)       v128.load offset=16 align=4
  (;@0300;)       f32x4.add
  (;@0303;)       local.get 23
  (;@0305;)       f32x4.pmax
  (;@0308;)       local.set 23
  (;@030a;)       local.get $$3.1
  (;@030c;)       local.get 23
  (;@030e;)       v128.store offset=192 align=4
  (;@0313;)     else
  (;@0314;)       local.get $$0
  (;@0316;)       local.set $$0.m.o
  (;@0318;)       local.get $$3
  (;@031a;)       local.set $$3.m.o
  (;@031c;)       i32.const 0
  (;@031e;)       local.set $m.o
  (;@0320;)       loop (;@4;)
  (;@0322;)         v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@0334;)         local.tee 23
  (;@0336;)         local.set $acc0.0.0
  (;@0338;)         local.get 23
  (;@033a;)         local.set $acc0.1.0
  (;@033c;)         local.get $$1
  (;@033e;)         local.set $k
  (;@0340;)         local.get $$0.m.o
  (;@0342;)         local.set $$1.k
  (;@0344;)         i32.const 0
  (;@0346;)         local.set $$0.k
  (;@0348;)         loop (;@5;)
  (;@034a;)           local.get $$1.k
  (;@034c;)           v128.load32_splat
  (;@0350;)           local.get $k
  (;@0352;)           v128.load offset=224 align=4
  (;@0357;)           local.tee 23
  (;@0359;)           local.get $acc0.0.0
  (;@035b;)           f32x4.relaxed_madd
  (;@035e;)           local.set $acc0.0.0
  (;@0360;)           local.get $$1.k
  (;@0362;)           v128.load32_splat offset=28
  (;@0366;)           local.get 23
  (;@0368;)           local.get $acc0.1.0
  (;@036a;)           f32x4.relaxed_madd
  (;@036d;)           local.set $acc0.1.0
  (;@036f;)           local.get $$1.k
  (;@0371;)           v128.load32_splat offset=4
  (;@0375;)           local.get $k
  (;@0377;)           v128.load offset=256 align=4
  (;@037c;)           local.tee 23
  (;@037e;)           local.get $acc0.0.0
  (;@0380;)           f32x4.relaxed_madd
  (;@0383;)           local.set $acc0.0.0
  (;@0385;)           local.get $$1.k
  (;@0387;)           v128.load32_splat offset=32
  (;@038b;)           local.get 23
  (;@038d;)           local.get $acc0.1.0
  (;@038f;)           f32x4.relaxed_madd
  (;@0392;)           local.set $acc0.1.0
  (;@0394;)           local.get $k
  (;@0396;)           i32.const 64
  (;@0399;)           i32.add
  (;@039a;)           local.set $k
  (;@039c;)           local.get $$1.k
  (;@039e;)           i32.const 8
  (;@03a0;)           i32.add
  (;@03a1;)           local.set $$1.k
  (;@03a3;)           local.get $$0.k
  (;@03a5;)           i32.const 1
  (;@03a7;)           i32.add
  (;@03a8;)           local.set $$0.k
  (;@03aa;)           local.get $$0.k
  (;@03ac;)           i32.const 3
  (;@03ae;)           i32.lt_s
  (;@03af;)           br_if 0 (;@5;)
  (;@03b1;)         end
  (;@03b2;)         local.get $$0.m.o
  (;@03b4;)         v128.load32_splat offset=24
  (;@03b8;)         local.get $$1
  (;@03ba;)         v128.load offset=416 align=4
  (;@03bf;)         local.tee 23
  (;@03c1;)         local.get $acc0.0.0
  (;@03c3;)         f32x4.relaxed_madd
  (;@03c6;)         local.set $acc0.0.0
  (;@03c8;)         local.get $$0.m.o
  (;@03ca;)         v128.load32_splat offset=52
  (;@03ce;)         local.get 23
  (;@03d0;)         local.get $acc0.1.0
  (;@03d2;)         f32x4.relaxed_madd
  (;@03d5;)         local.set $acc0.1.0
  (;@03d7;)         local.get $acc0.0.0
  (;@03d9;)         local.get $$2
  (;@03db;)         v128.load offset=32 align=4
  (;@03df;)         local.tee 23
  (;@03e1;)         f32x4.add
  (;@03e4;)         v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@03f6;)         local.tee 22
  (;@03f8;)         f32x4.pmax
  (;@03fb;)         local.set 25
  (;@03fd;)         local.get $$3.m.o
  (;@03ff;)         local.set $$0.k
  (;@0401;)         local.get $$0.k
  (;@0403;)         local.get 25
  (;@0405;)         v128.store64_lane offset=32 align=4 0
  (;@040a;)         local.get $$0.k
  (;@040c;)         local.get 25
  (;@040e;)         v128.store32_lane offset=40 2
  (;@0413;)         local.get $acc0.1.0
  (;@0415;)         local.get 23
  (;@0417;)         f32x4.add
  (;@041a;)         local.get 22
  (;@041c;)         f32x4.pmax
  (;@041f;)         local.set 22
  (;@0421;)         local.get $$3.m.o
  (;@0423;)         local.set $$0.k
  (;@0425;)         local.get $$0.k
  (;@0427;)         local.get 22
  (;@0429;)         v128.store64_lane offset=76 align=4 0
  (;@042e;)         local.get $$0.k
  (;@0430;)         local.get 22
  (;@0432;)         v128.store32_lane offset=84 2
  (;@0437;)         local.get $$0.m.o
  (;@0439;)         i32.const 56
  (;@043b;)         i32.add
  (;@043c;)         local.set $$0.m.o
  (;@043e;)         local.get $$3.m.o
  (;@0440;)         i32.const 88
  (;@0443;)         i32.add
  (;@0444;)         local.set $$3.m.o
  (;@0446;)         local.get $m.o
  (;@0448;)         i32.const 1
  (;@044a;)         i32.add
  (;@044b;)         local.set $m.o
  (;@044d;)         local.get $m.o
  (;@044f;)         i32.const 2
  (;@0451;)         i32.lt_s
  (;@0452;)         br_if 0 (;@4;)
  (;@0454;)       end
  (;@0455;)       v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@0467;)       local.set $acc0.0.0
  (;@0469;)       local.get $$0
  (;@046b;)       local.set $m.o
  (;@046d;)       local.get $$1
  (;@046f;)       local.set $$3.m.o
  (;@0471;)       i32.const 0
  (;@0473;)       local.set $$0.m.o
  (;@0475;)       loop (;@4;)
  (;@0477;)         local.get $m.o
  (;@0479;)         v128.load32_splat offset=112
  (;@047d;)         local.get $$3.m.o
  (;@047f;)         v128.load offset=224 align=4
  (;@0484;)         local.get $acc0.0.0
  (;@0486;)         f32x4.relaxed_madd
  (;@0489;)         local.set $acc0.0.0
  (;@048b;)         local.get $m.o
  (;@048d;)         v128.load32_splat offset=116
  (;@0491;)         local.get $$3.m.o
  (;@0493;)         v128.load offset=256 align=4
  (;@0498;)         local.get $acc0.0.0
  (;@049a;)         f32x4.relaxed_madd
  (;@049d;)         local.set $acc0.0.0
  (;@049f;)         local.get $m.o
  (;@04a1;)         i32.const 8
  (;@04a3;)         i32.add
  (;@04a4;)         local.set $m.o
  (;@04a6;)         local.get $$3.m.o
  (;@04a8;)         i32.const 64
  (;@04ab;)         i32.add
  (;@04ac;)         local.set $$3.m.o
  (;@04ae;)         local.get $$0.m.o
  (;@04b0;)         i32.const 1
  (;@04b2;)         i32.add
  (;@04b3;)         local.set $$0.m.o
  (;@04b5;)         local.get $$0.m.o
  (;@04b7;)         i32.const 3
  (;@04b9;)         i32.lt_s
  (;@04ba;)         br_if 0 (;@4;)
  (;@04bc;)       end
  (;@04bd;)       local.get $$0
  (;@04bf;)       v128.load32_splat offset=136
  (;@04c4;)       local.get $$1
  (;@04c6;)       v128.load offset=416 align=4
  (;@04cb;)       local.get $acc0.0.0
  (;@04cd;)       f32x4.relaxed_madd
  (;@04d0;)       local.set $acc0.0.0
  (;@04d2;)       local.get $acc0.0.0
  (;@04d4;)       local.get $$2
  (;@04d6;)       v128.load offset=32 align=4
  (;@04da;)       f32x4.add
  (;@04dd;)       v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@04ef;)       f32x4.pmax
  (;@04f2;)       local.set 22
  (;@04f4;)       local.get $$3
  (;@04f6;)       local.set $$0.m.o
  (;@04f8;)       local.get $$0.m.o
  (;@04fa;)       local.get 22
  (;@04fc;)       v128.store64_lane offset=208 align=4 0
  (;@0502;)       local.get $$0.m.o
  (;@0504;)       local.get 22
  (;@0506;)       v128.store32_lane offset=216 2
  (;@050c;)     end
  (;@050d;)     local.get $p
  (;@050f;)     i32.const 1
  (;@0511;)     i32.add
  (;@0512;)     local.set $p
  (;@0514;)     local.get $p
  (;@0516;)     local.get $end
  (;@0518;)     i32.lt_s
  (;@0519;)     br_if 0 (;@2;)
  (;@051b;)   end
  (;@051c;) end
  (;@051d;) end
)
