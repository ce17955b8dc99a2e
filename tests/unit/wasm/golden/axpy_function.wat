(func $f32_axpy_4 (param $args i32) (param $begin i32) (param $end i32)
  (local $x i32)
  (local $y i32)
  (local $left i32)
  (;@0000;) local.get $args
  (;@0002;) i32.load
  (;@0005;) local.get $begin
  (;@0007;) i32.const 4
  (;@0009;) i32.shl
  (;@000a;) i32.add
  (;@000b;) local.set $x
  (;@000d;) local.get $args
  (;@000f;) i32.load offset=4
  (;@0012;) local.get $begin
  (;@0014;) i32.const 4
  (;@0016;) i32.shl
  (;@0017;) i32.add
  (;@0018;) local.set $y
  (;@001a;) local.get $end
  (;@001c;) local.get $begin
  (;@001e;) i32.sub
  (;@001f;) local.set $left
  (;@0021;) block (;@1;)
  (;@0023;)   loop (;@2;)
  (;@0025;)     local.get $left
  (;@0027;)     i32.eqz
  (;@0028;)     br_if 1 (;@1;)
  (;@002a;)     local.get $y
  (;@002c;)     local.get $x
  (;@002e;)     v128.load
  (;@0032;)     v128.const i32x4 0x3f000000 0x3f000000 0x3f000000 0x3f000000 (;f32x4 0.5 0.5 0.5 0.5;)
  (;@0044;)     local.get $y
  (;@0046;)     v128.load align=4
  (;@004a;)     f32x4.relaxed_madd
  (;@004d;)     v128.store
  (;@0051;)     local.get $x
  (;@0053;)     i32.const 16
  (;@0055;)     i32.add
  (;@0056;)     local.set $x
  (;@0058;)     local.get $y
  (;@005a;)     i32.const 16
  (;@005c;)     i32.add
  (;@005d;)     local.set $y
  (;@005f;)     local.get $left
  (;@0061;)     i32.const 1
  (;@0063;)     i32.sub
  (;@0064;)     local.set $left
  (;@0066;)     br 0 (;@2;)
  (;@0068;)   end
  (;@0069;) end
)
