(module $f32_axpy_4
  (type (;0;) (func (param i32 i32 i32)))
  (import "env" "memory" (memory 0 65536 shared))
  (export "kernel" (func $f32_axpy_4))
  (func $f32_axpy_4 (type 0) (param $args i32) (param $begin i32) (param $end i32)
    (local $x i32)
    (local $y i32)
    (local $left i32)
    (;@003c;) local.get $args
    (;@003e;) i32.load
    (;@0041;) local.get $begin
    (;@0043;) i32.const 4
    (;@0045;) i32.shl
    (;@0046;) i32.add
    (;@0047;) local.set $x
    (;@0049;) local.get $args
    (;@004b;) i32.load offset=4
    (;@004e;) local.get $begin
    (;@0050;) i32.const 4
    (;@0052;) i32.shl
    (;@0053;) i32.add
    (;@0054;) local.set $y
    (;@0056;) local.get $end
    (;@0058;) local.get $begin
    (;@005a;) i32.sub
    (;@005b;) local.set $left
    (;@005d;) block (;@1;)
    (;@005f;)   loop (;@2;)
    (;@0061;)     local.get $left
    (;@0063;)     i32.eqz
    (;@0064;)     br_if 1 (;@1;)
    (;@0066;)     local.get $y
    (;@0068;)     local.get $x
    (;@006a;)     v128.load
    (;@006e;)     v128.const i32x4 0x3f000000 0x3f000000 0x3f000000 0x3f000000 (;f32x4 0.5 0.5 0.5 0.5;)
    (;@0080;)     local.get $y
    (;@0082;)     v128.load align=4
    (;@0086;)     f32x4.relaxed_madd
    (;@0089;)     v128.store
    (;@008d;)     local.get $x
    (;@008f;)     i32.const 16
    (;@0091;)     i32.add
    (;@0092;)     local.set $x
    (;@0094;)     local.get $y
    (;@0096;)     i32.const 16
    (;@0098;)     i32.add
    (;@0099;)     local.set $y
    (;@009b;)     local.get $left
    (;@009d;)     i32.const 1
    (;@009f;)     i32.sub
    (;@00a0;)     local.set $left
    (;@00a2;)     br 0 (;@2;)
    (;@00a4;)   end
    (;@00a5;) end
  )
)
