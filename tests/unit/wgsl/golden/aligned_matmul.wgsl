// rows = b.m · rows tile 64 · rows threads 8 · n tile 64 · n threads 8 · n x4 · k cache 16
// f32_matmul: 1 tile, 64 threads each
@group(0) @binding(0) var<storage, read> in0: array<vec4f>;
@group(0) @binding(1) var<storage, read> in1: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out2: array<vec4f>;
var<workgroup> shared3: array<vec4f, 256>;
var<workgroup> shared4: array<vec4f, 256>;

@compute @workgroup_size(64)
fn kernel(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let p = i32(group.x);
  let thread = i32(local);
  if (p >= 1) {
    return;
  }
  let tn = thread % 8;
  let tm = thread / 8 % 8;
  var acc_0_0: vec4f = vec4f(0.0f);
  var acc_0_1: vec4f = vec4f(0.0f);
  var acc_1_0: vec4f = vec4f(0.0f);
  var acc_1_1: vec4f = vec4f(0.0f);
  var acc_2_0: vec4f = vec4f(0.0f);
  var acc_2_1: vec4f = vec4f(0.0f);
  var acc_3_0: vec4f = vec4f(0.0f);
  var acc_3_1: vec4f = vec4f(0.0f);
  var acc_4_0: vec4f = vec4f(0.0f);
  var acc_4_1: vec4f = vec4f(0.0f);
  var acc_5_0: vec4f = vec4f(0.0f);
  var acc_5_1: vec4f = vec4f(0.0f);
  var acc_6_0: vec4f = vec4f(0.0f);
  var acc_6_1: vec4f = vec4f(0.0f);
  var acc_7_0: vec4f = vec4f(0.0f);
  var acc_7_1: vec4f = vec4f(0.0f);
  let a_x = thread % 4;
  let a_y = thread / 4;
  let b_x = thread % 16;
  let b_y = thread / 16;
  let t0 = (4 * a_x + vec4i(0, 1, 2, 3)) < vec4i(8i);
  let a_t0 = select(vec4f(0.0f), in0[16 * (a_y / 8i) + 2 * (a_y % 8i) + a_x], t0);
  let t1 = a_y + 16;
  let a_t1 = select(vec4f(0.0f), in0[16 * (t1 / 8i) + 2 * (t1 % 8i) + a_x], t0);
  let t2 = a_y + 32;
  let a_t2 = select(vec4f(0.0f), in0[16 * (t2 / 8i) + 2 * (t2 % 8i) + a_x], t0);
  let t3 = a_y + 48;
  let a_t3 = select(vec4f(0.0f), in0[16 * (t3 / 8i) + 2 * (t3 % 8i) + a_x], t0);
  let at0 = 4 * b_y + b_x;
  let b_t0 = select(vec4f(0.0f), in1[at0], vec4i(b_y) < vec4i(8i));
  let b_t1 = select(vec4f(0.0f), in1[at0 + 16], vec4i(b_y + 4) < vec4i(8i));
  let b_t2 = select(vec4f(0.0f), in1[at0 + 32], vec4i(b_y + 8) < vec4i(8i));
  let b_t3 = select(vec4f(0.0f), in1[at0 + 48], vec4i(b_y + 12) < vec4i(8i));
  let at1 = 4 * a_y + a_x;
  shared3[at1] = a_t0;
  shared3[at1 + 64] = a_t1;
  shared3[at1 + 128] = a_t2;
  shared3[at1 + 192] = a_t3;
  let at2 = 16 * b_y + b_x;
  shared4[at2] = b_t0;
  shared4[at2 + 64] = b_t1;
  shared4[at2 + 128] = b_t2;
  shared4[at2 + 192] = b_t3;
  workgroupBarrier();
  for (var k_i = 0; k_i < 4; k_i++) {
    let at3 = 4 * tm + k_i;
    let a_0 = shared3[at3];
    let a_1 = shared3[at3 + 32];
    let a_2 = shared3[at3 + 64];
    let a_3 = shared3[at3 + 96];
    let a_4 = shared3[at3 + 128];
    let a_5 = shared3[at3 + 160];
    let a_6 = shared3[at3 + 192];
    let a_7 = shared3[at3 + 224];
    let at4 = 64 * k_i + tn;
    var b_0: vec4f = shared4[at4];
    var b_1: vec4f = shared4[at4 + 8];
    acc_0_0 = fma(vec4f(a_0.x), b_0, acc_0_0);
    acc_0_1 = fma(vec4f(a_0.x), b_1, acc_0_1);
    acc_1_0 = fma(vec4f(a_1.x), b_0, acc_1_0);
    acc_1_1 = fma(vec4f(a_1.x), b_1, acc_1_1);
    acc_2_0 = fma(vec4f(a_2.x), b_0, acc_2_0);
    acc_2_1 = fma(vec4f(a_2.x), b_1, acc_2_1);
    acc_3_0 = fma(vec4f(a_3.x), b_0, acc_3_0);
    acc_3_1 = fma(vec4f(a_3.x), b_1, acc_3_1);
    acc_4_0 = fma(vec4f(a_4.x), b_0, acc_4_0);
    acc_4_1 = fma(vec4f(a_4.x), b_1, acc_4_1);
    acc_5_0 = fma(vec4f(a_5.x), b_0, acc_5_0);
    acc_5_1 = fma(vec4f(a_5.x), b_1, acc_5_1);
    acc_6_0 = fma(vec4f(a_6.x), b_0, acc_6_0);
    acc_6_1 = fma(vec4f(a_6.x), b_1, acc_6_1);
    acc_7_0 = fma(vec4f(a_7.x), b_0, acc_7_0);
    acc_7_1 = fma(vec4f(a_7.x), b_1, acc_7_1);
    b_0 = shared4[at4 + 16];
    b_1 = shared4[at4 + 24];
    acc_0_0 = fma(vec4f(a_0.y), b_0, acc_0_0);
    acc_0_1 = fma(vec4f(a_0.y), b_1, acc_0_1);
    acc_1_0 = fma(vec4f(a_1.y), b_0, acc_1_0);
    acc_1_1 = fma(vec4f(a_1.y), b_1, acc_1_1);
    acc_2_0 = fma(vec4f(a_2.y), b_0, acc_2_0);
    acc_2_1 = fma(vec4f(a_2.y), b_1, acc_2_1);
    acc_3_0 = fma(vec4f(a_3.y), b_0, acc_3_0);
    acc_3_1 = fma(vec4f(a_3.y), b_1, acc_3_1);
    acc_4_0 = fma(vec4f(a_4.y), b_0, acc_4_0);
    acc_4_1 = fma(vec4f(a_4.y), b_1, acc_4_1);
    acc_5_0 = fma(vec4f(a_5.y), b_0, acc_5_0);
    acc_5_1 = fma(vec4f(a_5.y), b_1, acc_5_1);
    acc_6_0 = fma(vec4f(a_6.y), b_0, acc_6_0);
    acc_6_1 = fma(vec4f(a_6.y), b_1, acc_6_1);
    acc_7_0 = fma(vec4f(a_7.y), b_0, acc_7_0);
    acc_7_1 = fma(vec4f(a_7.y), b_1, acc_7_1);
    b_0 = shared4[at4 + 32];
    b_1 = shared4[at4 + 40];
    acc_0_0 = fma(vec4f(a_0.z), b_0, acc_0_0);
    acc_0_1 = fma(vec4f(a_0.z), b_1, acc_0_1);
    acc_1_0 = fma(vec4f(a_1.z), b_0, acc_1_0);
    acc_1_1 = fma(vec4f(a_1.z), b_1, acc_1_1);
    acc_2_0 = fma(vec4f(a_2.z), b_0, acc_2_0);
    acc_2_1 = fma(vec4f(a_2.z), b_1, acc_2_1);
    acc_3_0 = fma(vec4f(a_3.z), b_0, acc_3_0);
    acc_3_1 = fma(vec4f(a_3.z), b_1, acc_3_1);
    acc_4_0 = fma(vec4f(a_4.z), b_0, acc_4_0);
    acc_4_1 = fma(vec4f(a_4.z), b_1, acc_4_1);
    acc_5_0 = fma(vec4f(a_5.z), b_0, acc_5_0);
    acc_5_1 = fma(vec4f(a_5.z), b_1, acc_5_1);
    acc_6_0 = fma(vec4f(a_6.z), b_0, acc_6_0);
    acc_6_1 = fma(vec4f(a_6.z), b_1, acc_6_1);
    acc_7_0 = fma(vec4f(a_7.z), b_0, acc_7_0);
    acc_7_1 = fma(vec4f(a_7.z), b_1, acc_7_1);
    b_0 = shared4[at4 + 48];
    b_1 = shared4[at4 + 56];
    acc_0_0 = fma(vec4f(a_0.w), b_0, acc_0_0);
    acc_0_1 = fma(vec4f(a_0.w), b_1, acc_0_1);
    acc_1_0 = fma(vec4f(a_1.w), b_0, acc_1_0);
    acc_1_1 = fma(vec4f(a_1.w), b_1, acc_1_1);
    acc_2_0 = fma(vec4f(a_2.w), b_0, acc_2_0);
    acc_2_1 = fma(vec4f(a_2.w), b_1, acc_2_1);
    acc_3_0 = fma(vec4f(a_3.w), b_0, acc_3_0);
    acc_3_1 = fma(vec4f(a_3.w), b_1, acc_3_1);
    acc_4_0 = fma(vec4f(a_4.w), b_0, acc_4_0);
    acc_4_1 = fma(vec4f(a_4.w), b_1, acc_4_1);
    acc_5_0 = fma(vec4f(a_5.w), b_0, acc_5_0);
    acc_5_1 = fma(vec4f(a_5.w), b_1, acc_5_1);
    acc_6_0 = fma(vec4f(a_6.w), b_0, acc_6_0);
    acc_6_1 = fma(vec4f(a_6.w), b_1, acc_6_1);
    acc_7_0 = fma(vec4f(a_7.w), b_0, acc_7_0);
    acc_7_1 = fma(vec4f(a_7.w), b_1, acc_7_1);
  }
  if (tm < 8i) {
    if ((4 * tn) < 16i) {
      out2[32 * (tm / 8i) + 4 * (tm % 8i) + tn] = acc_0_0;
    }
    if ((4 * tn + 32) < 16i) {
      out2[32 * (tm / 8i) + 4 * (tm % 8i) + tn + 8] = acc_0_1;
    }
  }
  if ((tm + 8) < 8i) {
    if ((4 * tn) < 16i) {
      let t4 = tm + 8;
      out2[32 * (t4 / 8i) + 4 * (t4 % 8i) + tn] = acc_1_0;
    }
    if ((4 * tn + 32) < 16i) {
      let t5 = tm + 8;
      out2[32 * (t5 / 8i) + 4 * (t5 % 8i) + tn + 8] = acc_1_1;
    }
  }
  if ((tm + 16) < 8i) {
    if ((4 * tn) < 16i) {
      let t6 = tm + 16;
      out2[32 * (t6 / 8i) + 4 * (t6 % 8i) + tn] = acc_2_0;
    }
    if ((4 * tn + 32) < 16i) {
      let t7 = tm + 16;
      out2[32 * (t7 / 8i) + 4 * (t7 % 8i) + tn + 8] = acc_2_1;
    }
  }
  if ((tm + 24) < 8i) {
    if ((4 * tn) < 16i) {
      let t8 = tm + 24;
      out2[32 * (t8 / 8i) + 4 * (t8 % 8i) + tn] = acc_3_0;
    }
    if ((4 * tn + 32) < 16i) {
      let t9 = tm + 24;
      out2[32 * (t9 / 8i) + 4 * (t9 % 8i) + tn + 8] = acc_3_1;
    }
  }
  if ((tm + 32) < 8i) {
    if ((4 * tn) < 16i) {
      let t10 = tm + 32;
      out2[32 * (t10 / 8i) + 4 * (t10 % 8i) + tn] = acc_4_0;
    }
    if ((4 * tn + 32) < 16i) {
      let t11 = tm + 32;
      out2[32 * (t11 / 8i) + 4 * (t11 % 8i) + tn + 8] = acc_4_1;
    }
  }
  if ((tm + 40) < 8i) {
    if ((4 * tn) < 16i) {
      let t12 = tm + 40;
      out2[32 * (t12 / 8i) + 4 * (t12 % 8i) + tn] = acc_5_0;
    }
    if ((4 * tn + 32) < 16i) {
      let t13 = tm + 40;
      out2[32 * (t13 / 8i) + 4 * (t13 % 8i) + tn + 8] = acc_5_1;
    }
  }
  if ((tm + 48) < 8i) {
    if ((4 * tn) < 16i) {
      let t14 = tm + 48;
      out2[32 * (t14 / 8i) + 4 * (t14 % 8i) + tn] = acc_6_0;
    }
    if ((4 * tn + 32) < 16i) {
      let t15 = tm + 48;
      out2[32 * (t15 / 8i) + 4 * (t15 % 8i) + tn + 8] = acc_6_1;
    }
  }
  if ((tm + 56) < 8i) {
    if ((4 * tn) < 16i) {
      let t16 = tm + 56;
      out2[32 * (t16 / 8i) + 4 * (t16 % 8i) + tn] = acc_7_0;
    }
    if ((4 * tn + 32) < 16i) {
      let t17 = tm + 56;
      out2[32 * (t17 / 8i) + 4 * (t17 % 8i) + tn + 8] = acc_7_1;
    }
  }
}
