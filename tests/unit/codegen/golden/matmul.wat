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
  (local $acc0.0.0 v128)
  (local $acc0.0.4 v128)
  (local $acc0.1.0 v128)
  (local $acc0.1.4 v128)
  (local $$1.k i32)
  (local $$0.k i32)
  (local $k i32)
  (local (;22;) v128)
  (local (;23;) v128)
  (local (;24;) v128)
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
  (;@0078;)         local.set $acc0.0.0
  (;@007a;)         v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@008c;)         local.set $acc0.0.4
  (;@008e;)         v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@00a0;)         local.set $acc0.1.0
  (;@00a2;)         v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@00b4;)         local.set $acc0.1.4
  (;@00b6;)         local.get $$1.1
  (;@00b8;)         local.set $$1.k
  (;@00ba;)         local.get $$0.m.o
  (;@00bc;)         local.set $$0.k
  (;@00be;)         i32.const 0
  (;@00c0;)         local.set $k
  (;@00c2;)         loop (;@5;)
  (;@00c4;)           local.get $$0.k
  (;@00c6;)           v128.load32_splat
  (;@00ca;)           local.tee 22
  (;@00cc;)           local.get $$1.k
  (;@00ce;)           v128.load align=4
  (;@00d2;)           local.tee 23
  (;@00d4;)           local.get $acc0.0.0
  (;@00d6;)           f32x4.relaxed_madd
  (;@00d9;)           local.set $acc0.0.0
  (;@00db;)           local.get 22
  (;@00dd;)           local.get $$1.k
  (;@00df;)           v128.load offset=16 align=4
  (;@00e3;)           local.tee 22
  (;@00e5;)           local.get $acc0.0.4
  (;@00e7;)           f32x4.relaxed_madd
  (;@00ea;)           local.set $acc0.0.4
  (;@00ec;)           local.get $$0.k
  (;@00ee;)           v128.load32_splat offset=28
  (;@00f2;)           local.tee 24
  (;@00f4;)           local.get 23
  (;@00f6;)           local.get $acc0.1.0
  (;@00f8;)           f32x4.relaxed_madd
  (;@00fb;)           local.set $acc0.1.0
  (;@00fd;)           local.get 24
  (;@00ff;)           local.get 22
  (;@0101;)           local.get $acc0.1.4
  (;@0103;)           f32x4.relaxed_madd
  (;@0106;)           local.set $acc0.1.4
  (;@0108;)           local.get $$0.k
  (;@010a;)           v128.load32_splat offset=4
  (;@010e;)           local.tee 22
  (;@0110;)           local.get $$1.k
  (;@0112;)           v128.load offset=32 align=4
  (;@0116;)           local.tee 24
  (;@0118;)           local.get $acc0.0.0
  (;@011a;)           f32x4.relaxed_madd
  (;@011d;)           local.set $acc0.0.0
  (;@011f;)           local.get 22
  (;@0121;)           local.get $$1.k
  (;@0123;)           v128.load offset=48 align=4
  (;@0127;)           local.tee 22
  (;@0129;)           local.get $acc0.0.4
  (;@012b;)           f32x4.relaxed_madd
  (;@012e;)           local.set $acc0.0.4
  (;@0130;)           local.get $$0.k
  (;@0132;)           v128.load32_splat offset=32
  (;@0136;)           local.tee 23
  (;@0138;)           local.get 24
  (;@013a;)           local.get $acc0.1.0
  (;@013c;)           f32x4.relaxed_madd
  (;@013f;)           local.set $acc0.1.0
  (;@0141;)           local.get 23
  (;@0143;)           local.get 22
  (;@0145;)           local.get $acc0.1.4
  (;@0147;)           f32x4.relaxed_madd
  (;@014a;)           local.set $acc0.1.4
  (;@014c;)           local.get $$1.k
  (;@014e;)           i32.const 64
  (;@0151;)           i32.add
  (;@0152;)           local.set $$1.k
  (;@0154;)           local.get $$0.k
  (;@0156;)           i32.const 8
  (;@0158;)           i32.add
  (;@0159;)           local.set $$0.k
  (;@015b;)           local.get $k
  (;@015d;)           i32.const 1
  (;@015f;)           i32.add
  (;@0160;)           local.set $k
  (;@0162;)           local.get $k
  (;@0164;)           i32.const 3
  (;@0166;)           i32.lt_s
  (;@0167;)           br_if 0 (;@5;)
  (;@0169;)         end
  (;@016a;)         local.get $$0.m.o
  (;@016c;)         v128.load32_splat offset=24
  (;@0170;)         local.tee 22
  (;@0172;)         local.get $$1.1
  (;@0174;)         v128.load offset=192 align=4
  (;@0179;)         local.tee 23
  (;@017b;)         local.get $acc0.0.0
  (;@017d;)         f32x4.relaxed_madd
  (;@0180;)         local.set $acc0.0.0
  (;@0182;)         local.get 22
  (;@0184;)         local.get $$1.1
  (;@0186;)         v128.load offset=208 align=4
  (;@018b;)         local.tee 22
  (;@018d;)         local.get $acc0.0.4
  (;@018f;)         f32x4.relaxed_madd
  (;@0192;)         local.set $acc0.0.4
  (;@0194;)         local.get $$0.m.o
  (;@0196;)         v128.load32_splat offset=52
  (;@019a;)         local.tee 24
  (;@019c;)         local.get 23
  (;@019e;)         local.get $acc0.1.0
  (;@01a0;)         f32x4.relaxed_madd
  (;@01a3;)         local.set $acc0.1.0
  (;@01a5;)         local.get 24
  (;@01a7;)         local.get 22
  (;@01a9;)         local.get $acc0.1.4
  (;@01ab;)         f32x4.relaxed_madd
  (;@01ae;)         local.set $acc0.1.4
  (;@01b0;)         local.get $acc0.0.0
  (;@01b2;)         local.get $$2.1
  (;@01b4;)         v128.load align=4
  (;@01b8;)         local.tee 22
  (;@01ba;)         f32x4.add
  (;@01bd;)         v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@01cf;)         local.tee 24
  (;@01d1;)         f32x4.pmax
  (;@01d4;)         local.set 23
  (;@01d6;)         local.get $$3.m.o
  (;@01d8;)         local.get 23
  (;@01da;)         v128.store align=4
  (;@01de;)         local.get $acc0.0.4
  (;@01e0;)         local.get $$2.1
  (;@01e2;)         v128.load offset=16 align=4
  (;@01e6;)         local.tee 23
  (;@01e8;)         f32x4.add
  (;@01eb;)         local.get 24
  (;@01ed;)         f32x4.pmax
  (;@01f0;)         local.set 25
  (;@01f2;)         local.get $$3.m.o
  (;@01f4;)         local.get 25
  (;@01f6;)         v128.store offset=16 align=4
  (;@01fa;)         local.get $acc0.1.0
  (;@01fc;)         local.get 22
  (;@01fe;)         f32x4.add
  (;@0201;)         local.get 24
  (;@0203;)         f32x4.pmax
  (;@0206;)         local.set 22
  (;@0208;)         local.get $$3.m.o
  (;@020a;)         local.get 22
  (;@020c;)         v128.store offset=44 align=4
  (;@0210;)         local.get $acc0.1.4
  (;@0212;)         local.get 23
  (;@0214;)         f32x4.add
  (;@0217;)         local.get 24
  (;@0219;)         f32x4.pmax
  (;@021c;)         local.set 24
  (;@021e;)         local.get $$3.m.o
  (;@0220;)         local.get 24
  (;@0222;)         v128.store offset=60 align=4
  (;@0226;)         local.get $$0.m.o
  (;@0228;)         i32.const 56
  (;@022a;)         i32.add
  (;@022b;)         local.set $$0.m.o
  (;@022d;)         local.get $$3.m.o
  (;@022f;)         i32.const 88
  (;@0232;)         i32.add
  (;@0233;)         local.set $$3.m.o
  (;@0235;)         local.get $m.o
  (;@0237;)         i32.const 1
  (;@0239;)         i32.add
  (;@023a;)         local.set $m.o
  (;@023c;)         local.get $m.o
  (;@023e;)         i32.const 2
  (;@0240;)         i32.lt_s
  (;@0241;)         br_if 0 (;@4;)
  (;@0243;)       end
  (;@0244;)       v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@0256;)       local.set $acc0.0.0
  (;@0258;)       v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@026a;)       local.set $acc0.0.4
  (;@026c;)       local.get $$0
  (;@026e;)       local.set $m.o
  (;@0270;)       local.get $$1.1
  (;@0272;)       local.set $$3.m.o
  (;@0274;)       i32.const 0
  (;@0276;)       local.set $$0.m.o
  (;@0278;)       loop (;@4;)
  (;@027a;)         local.get $m.o
  (;@027c;)         v128.load32_splat offset=112
  (;@0280;)         local.tee 24
  (;@0282;)         local.get $$3.m.o
  (;@0284;)         v128.load align=4
  (;@0288;)         local.get $acc0.0.0
  (;@028a;)         f32x4.relaxed_madd
  (;@028d;)         local.set $acc0.0.0
  (;@028f;)         local.get 24
  (;@0291;)         local.get $$3.m.o
  (;@0293;)         v128.load offset=16 align=4
  (;@0297;)         local.get $acc0.0.4
  (;@0299;)         f32x4.relaxed_madd
  (;@029c;)         local.set $acc0.0.4
  (;@029e;)         local.get $m.o
  (;@02a0;)         v128.load32_splat offset=116
  (;@02a4;)         local.tee 24
  (;@02a6;)         local.get $$3.m.o
  (;@02a8;)         v128.load offset=32 align=4
  (;@02ac;)         local.get $acc0.0.0
  (;@02ae;)         f32x4.relaxed_madd
  (;@02b1;)         local.set $acc0.0.0
  (;@02b3;)         local.get 24
  (;@02b5;)         local.get $$3.m.o
  (;@02b7;)         v128.load offset=48 align=4
  (;@02bb;)         local.get $acc0.0.4
  (;@02bd;)         f32x4.relaxed_madd
  (;@02c0;)         local.set $acc0.0.4
  (;@02c2;)         local.get $m.o
  (;@02c4;)         i32.const 8
  (;@02c6;)         i32.add
  (;@02c7;)         local.set $m.o
  (;@02c9;)         local.get $$3.m.o
  (;@02cb;)         i32.const 64
  (;@02ce;)         i32.add
  (;@02cf;)         local.set $$3.m.o
  (;@02d1;)         local.get $$0.m.o
  (;@02d3;)         i32.const 1
  (;@02d5;)         i32.add
  (;@02d6;)         local.set $$0.m.o
  (;@02d8;)         local.get $$0.m.o
  (;@02da;)         i32.const 3
  (;@02dc;)         i32.lt_s
  (;@02dd;)         br_if 0 (;@4;)
  (;@02df;)       end
  (;@02e0;)       local.get $$0
  (;@02e2;)       v128.load32_splat offset=136
  (;@02e7;)       local.tee 24
  (;@02e9;)       local.get $$1.1
  (;@02eb;)       v128.load offset=192 align=4
  (;@02f0;)       local.get $acc0.0.0
  (;@02f2;)       f32x4.relaxed_madd
  (;@02f5;)       local.set $acc0.0.0
  (;@02f7;)       local.get 24
  (;@02f9;)       local.get $$1.1
  (;@02fb;)       v128.load offset=208 align=4
  (;@0300;)       local.get $acc0.0.4
  (;@0302;)       f32x4.relaxed_madd
  (;@0305;)       local.set $acc0.0.4
  (;@0307;)       local.get $acc0.0.0
  (;@0309;)       local.get $$2.1
  (;@030b;)       v128.load align=4
  (;@030f;)       f32x4.add
  (;@0312;)       v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@0324;)       local.tee 24
  (;@0326;)       f32x4.pmax
  (;@0329;)       local.set 23
  (;@032b;)       local.get $$3.1
  (;@032d;)       local.get 23
  (;@032f;)       v128.store offset=176 align=4
  (;@0334;)       local.get $acc0.0.4
  (;@0336;)       local.get $$2.1
  (;@0338;)       v128.load offset=16 align=4
  (;@033c;)       f32x4.add
  (;@033f;)       local.get 24
  (;@0341;)       f32x4.pmax
  (;@0344;)       local.set 24
  (;@0346;)       local.get $$3.1
  (;@0348;)       local.get 24
  (;@034a;)       v128.store offset=192 align=4
  (;@034f;)     else
  (;@0350;)       local.get $$0
  (;@0352;)       local.set $$0.m.o
  (;@0354;)       local.get $$3
  (;@0356;)       local.set $$3.m.o
  (;@0358;)       i32.const 0
  (;@035a;)       local.set $m.o
  (;@035c;)       loop (;@4;)
  (;@035e;)         v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@0370;)         local.set $acc0.0.0
  (;@0372;)         v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@0384;)         local.set $acc0.1.0
  (;@0386;)         local.get $$1
  (;@0388;)         local.set $k
  (;@038a;)         local.get $$0.m.o
  (;@038c;)         local.set $$0.k
  (;@038e;)         i32.const 0
  (;@0390;)         local.set $$1.k
  (;@0392;)         loop (;@5;)
  (;@0394;)           local.get $$0.k
  (;@0396;)           v128.load32_splat
  (;@039a;)           local.get $k
  (;@039c;)           v128.load offset=224 align=4
  (;@03a1;)           local.tee 24
  (;@03a3;)           local.get $acc0.0.0
  (;@03a5;)           f32x4.relaxed_madd
  (;@03a8;)           local.set $acc0.0.0
  (;@03aa;)           local.get $$0.k
  (;@03ac;)           v128.load32_splat offset=28
  (;@03b0;)           local.get 24
  (;@03b2;)           local.get $acc0.1.0
  (;@03b4;)           f32x4.relaxed_madd
  (;@03b7;)           local.set $acc0.1.0
  (;@03b9;)           local.get $$0.k
  (;@03bb;)           v128.load32_splat offset=4
  (;@03bf;)           local.get $k
  (;@03c1;)           v128.load offset=256 align=4
  (;@03c6;)           local.tee 24
  (;@03c8;)           local.get $acc0.0.0
  (;@03ca;)           f32x4.relaxed_madd
  (;@03cd;)           local.set $acc0.0.0
  (;@03cf;)           local.get $$0.k
  (;@03d1;)           v128.load32_splat offset=32
  (;@03d5;)           local.get 24
  (;@03d7;)           local.get $acc0.1.0
  (;@03d9;)           f32x4.relaxed_madd
  (;@03dc;)           local.set $acc0.1.0
  (;@03de;)           local.get $k
  (;@03e0;)           i32.const 64
  (;@03e3;)           i32.add
  (;@03e4;)           local.set $k
  (;@03e6;)           local.get $$0.k
  (;@03e8;)           i32.const 8
  (;@03ea;)           i32.add
  (;@03eb;)           local.set $$0.k
  (;@03ed;)           local.get $$1.k
  (;@03ef;)           i32.const 1
  (;@03f1;)           i32.add
  (;@03f2;)           local.set $$1.k
  (;@03f4;)           local.get $$1.k
  (;@03f6;)           i32.const 3
  (;@03f8;)           i32.lt_s
  (;@03f9;)           br_if 0 (;@5;)
  (;@03fb;)         end
  (;@03fc;)         local.get $$0.m.o
  (;@03fe;)         v128.load32_splat offset=24
  (;@0402;)         local.get $$1
  (;@0404;)         v128.load offset=416 align=4
  (;@0409;)         local.tee 24
  (;@040b;)         local.get $acc0.0.0
  (;@040d;)         f32x4.relaxed_madd
  (;@0410;)         local.set $acc0.0.0
  (;@0412;)         local.get $$0.m.o
  (;@0414;)         v128.load32_splat offset=52
  (;@0418;)         local.get 24
  (;@041a;)         local.get $acc0.1.0
  (;@041c;)         f32x4.relaxed_madd
  (;@041f;)         local.set $acc0.1.0
  (;@0421;)         local.get $acc0.0.0
  (;@0423;)         local.get $$2
  (;@0425;)         v128.load offset=32 align=4
  (;@0429;)         local.tee 24
  (;@042b;)         f32x4.add
  (;@042e;)         v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@0440;)         local.tee 23
  (;@0442;)         f32x4.pmax
  (;@0445;)         local.set 22
  (;@0447;)         local.get $$3.m.o
  (;@0449;)         local.set $$1.k
  (;@044b;)         local.get $$1.k
  (;@044d;)         local.get 22
  (;@044f;)         v128.store64_lane offset=32 align=4 0
  (;@0454;)         local.get $$1.k
  (;@0456;)         local.get 22
  (;@0458;)         v128.store32_lane offset=40 2
  (;@045d;)         local.get $acc0.1.0
  (;@045f;)         local.get 24
  (;@0461;)         f32x4.add
  (;@0464;)         local.get 23
  (;@0466;)         f32x4.pmax
  (;@0469;)         local.set 23
  (;@046b;)         local.get $$3.m.o
  (;@046d;)         local.set $$1.k
  (;@046f;)         local.get $$1.k
  (;@0471;)         local.get 23
  (;@0473;)         v128.store64_lane offset=76 align=4 0
  (;@0478;)         local.get $$1.k
  (;@047a;)         local.get 23
  (;@047c;)         v128.store32_lane offset=84 2
  (;@0481;)         local.get $$0.m.o
  (;@0483;)         i32.const 56
  (;@0485;)         i32.add
  (;@0486;)         local.set $$0.m.o
  (;@0488;)         local.get $$3.m.o
  (;@048a;)         i32.const 88
  (;@048d;)         i32.add
  (;@048e;)         local.set $$3.m.o
  (;@0490;)         local.get $m.o
  (;@0492;)         i32.const 1
  (;@0494;)         i32.add
  (;@0495;)         local.set $m.o
  (;@0497;)         local.get $m.o
  (;@0499;)         i32.const 2
  (;@049b;)         i32.lt_s
  (;@049c;)         br_if 0 (;@4;)
  (;@049e;)       end
  (;@049f;)       v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@04b1;)       local.set $acc0.0.0
  (;@04b3;)       local.get $$1
  (;@04b5;)       local.set $m.o
  (;@04b7;)       local.get $$0
  (;@04b9;)       local.set $$3.m.o
  (;@04bb;)       i32.const 0
  (;@04bd;)       local.set $$0.m.o
  (;@04bf;)       loop (;@4;)
  (;@04c1;)         local.get $$3.m.o
  (;@04c3;)         v128.load32_splat offset=112
  (;@04c7;)         local.get $m.o
  (;@04c9;)         v128.load offset=224 align=4
  (;@04ce;)         local.get $acc0.0.0
  (;@04d0;)         f32x4.relaxed_madd
  (;@04d3;)         local.set $acc0.0.0
  (;@04d5;)         local.get $$3.m.o
  (;@04d7;)         v128.load32_splat offset=116
  (;@04db;)         local.get $m.o
  (;@04dd;)         v128.load offset=256 align=4
  (;@04e2;)         local.get $acc0.0.0
  (;@04e4;)         f32x4.relaxed_madd
  (;@04e7;)         local.set $acc0.0.0
  (;@04e9;)         local.get $m.o
  (;@04eb;)         i32.const 64
  (;@04ee;)         i32.add
  (;@04ef;)         local.set $m.o
  (;@04f1;)         local.get $$3.m.o
  (;@04f3;)         i32.const 8
  (;@04f5;)         i32.add
  (;@04f6;)         local.set $$3.m.o
  (;@04f8;)         local.get $$0.m.o
  (;@04fa;)         i32.const 1
  (;@04fc;)         i32.add
  (;@04fd;)         local.set $$0.m.o
  (;@04ff;)         local.get $$0.m.o
  (;@0501;)         i32.const 3
  (;@0503;)         i32.lt_s
  (;@0504;)         br_if 0 (;@4;)
  (;@0506;)       end
  (;@0507;)       local.get $$0
  (;@0509;)       v128.load32_splat offset=136
  (;@050e;)       local.get $$1
  (;@0510;)       v128.load offset=416 align=4
  (;@0515;)       local.get $acc0.0.0
  (;@0517;)       f32x4.relaxed_madd
  (;@051a;)       local.set $acc0.0.0
  (;@051c;)       local.get $acc0.0.0
  (;@051e;)       local.get $$2
  (;@0520;)       v128.load offset=32 align=4
  (;@0524;)       f32x4.add
  (;@0527;)       v128.const i32x4 0x00000000 0x00000000 0x00000000 0x00000000 (;f32x4 0 0 0 0;)
  (;@0539;)       f32x4.pmax
  (;@053c;)       local.set 23
  (;@053e;)       local.get $$3
  (;@0540;)       local.set $$0.m.o
  (;@0542;)       local.get $$0.m.o
  (;@0544;)       local.get 23
  (;@0546;)       v128.store64_lane offset=208 align=4 0
  (;@054c;)       local.get $$0.m.o
  (;@054e;)       local.get 23
  (;@0550;)       v128.store32_lane offset=216 2
  (;@0556;)     end
  (;@0557;)     local.get $p
  (;@0559;)     i32.const 1
  (;@055b;)     i32.add
  (;@055c;)     local.set $p
  (;@055e;)     local.get $p
  (;@0560;)     local.get $end
  (;@0562;)     i32.lt_s
  (;@0563;)     br_if 0 (;@2;)
  (;@0565;)   end
  (;@0566;) end
  (;@0567;) end
)
