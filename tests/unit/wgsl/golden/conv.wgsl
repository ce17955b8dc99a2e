// f32_conv: 1 tile, 128 threads each
@group(0) @binding(0) var<storage, read> in0: array<f32>;
@group(0) @binding(1) var<storage, read> in1: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out2: array<vec4f>;
var<workgroup> shared3: array<vec4f, 128>;
var<workgroup> shared4: array<vec4f, 256>;
var<workgroup> shared5: array<vec4f, 128>;

@compute @workgroup_size(128)
fn kernel(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let p = i32(group.x);
  let thread = i32(local);
  if (p >= 1) {
    return;
  }
  let tn = thread % 8;
  let tm = thread / 8 % 4;
  let ks = thread / 32;
  var acc_0_0: vec4f = vec4f(0.0f);
  var acc_1_0: vec4f = vec4f(0.0f);
  var acc_2_0: vec4f = vec4f(0.0f);
  var acc_3_0: vec4f = vec4f(0.0f);
  let a_x = thread % 8;
  let a_y = thread / 8;
  let b_x = thread % 8;
  let b_y = thread / 8;
  let t0 = 4 * a_x + vec4i(0, 1, 2, 3);
  let t1 = a_y / 3i;
  let t2 = a_y % 3i;
  let t3 = t0 / vec4i(3i);
  let t4 = t3 / vec4i(3i);
  let t5 = t3 % vec4i(3i);
  let t6 = (30 * t1 + 6 * t2 - 18) + 15 * t4 + (t0 % vec4i(3i)) + 3 * t5;
  let t7 = (2 * t1 - 1) + t4;
  let t8 = (2 * t2 - 1) + t5;
  let t9 = select(vec4f(0.0f), vec4f(in0[t6.x], in0[t6.y], in0[t6.z], in0[t6.w]), (t7 >= vec4i(0i)) & (t7 < vec4i(5i)) & (t8 >= vec4i(0i)) & (t8 < vec4i(5i)));
  let a_t0 = select(vec4f(0.0f), t9, t0 < vec4i(27i));
  let at0 = b_x + b_y;
  let b_t0 = select(vec4f(0.0f), in1[at0], vec4i(b_y) < vec4i(27i));
  let b_t1 = select(vec4f(0.0f), in1[at0 + 16], vec4i(b_y + 16) < vec4i(27i));
  shared3[8 * a_y + a_x] = a_t0;
  let at1 = 8 * b_y + b_x;
  shared4[at1] = b_t0;
  shared4[at1 + 128] = b_t1;
  workgroupBarrier();
  for (var k_i = 0; k_i < 2; k_i++) {
    let at2 = 8 * tm + 2 * ks + k_i;
    let a_0 = shared3[at2];
    let a_1 = shared3[at2 + 32];
    let a_2 = shared3[at2 + 64];
    let a_3 = shared3[at2 + 96];
    let at3 = 64 * ks + 32 * k_i + tn;
    var b_0: vec4f = shared4[at3];
    acc_0_0 = fma(vec4f(a_0.x), b_0, acc_0_0);
    acc_1_0 = fma(vec4f(a_1.x), b_0, acc_1_0);
    acc_2_0 = fma(vec4f(a_2.x), b_0, acc_2_0);
    acc_3_0 = fma(vec4f(a_3.x), b_0, acc_3_0);
    b_0 = shared4[at3 + 8];
    acc_0_0 = fma(vec4f(a_0.y), b_0, acc_0_0);
    acc_1_0 = fma(vec4f(a_1.y), b_0, acc_1_0);
    acc_2_0 = fma(vec4f(a_2.y), b_0, acc_2_0);
    acc_3_0 = fma(vec4f(a_3.y), b_0, acc_3_0);
    b_0 = shared4[at3 + 16];
    acc_0_0 = fma(vec4f(a_0.z), b_0, acc_0_0);
    acc_1_0 = fma(vec4f(a_1.z), b_0, acc_1_0);
    acc_2_0 = fma(vec4f(a_2.z), b_0, acc_2_0);
    acc_3_0 = fma(vec4f(a_3.z), b_0, acc_3_0);
    b_0 = shared4[at3 + 24];
    acc_0_0 = fma(vec4f(a_0.w), b_0, acc_0_0);
    acc_1_0 = fma(vec4f(a_1.w), b_0, acc_1_0);
    acc_2_0 = fma(vec4f(a_2.w), b_0, acc_2_0);
    acc_3_0 = fma(vec4f(a_3.w), b_0, acc_3_0);
  }
  if (ks == 1i) {
    let at4 = 8 * tm + tn;
    shared5[at4] = acc_0_0;
    shared5[at4 + 32] = acc_1_0;
    shared5[at4 + 64] = acc_2_0;
    shared5[at4 + 96] = acc_3_0;
  }
  workgroupBarrier();
  if (ks == 0i) {
    let at5 = 8 * tm + tn;
    acc_0_0 = acc_0_0 + shared5[at5];
    acc_1_0 = acc_1_0 + shared5[at5 + 32];
    acc_2_0 = acc_2_0 + shared5[at5 + 64];
    acc_3_0 = acc_3_0 + shared5[at5 + 96];
  }
  workgroupBarrier();
  if (ks == 2i) {
    let at6 = 8 * tm + tn;
    shared5[at6] = acc_0_0;
    shared5[at6 + 32] = acc_1_0;
    shared5[at6 + 64] = acc_2_0;
    shared5[at6 + 96] = acc_3_0;
  }
  workgroupBarrier();
  if (ks == 0i) {
    let at7 = 8 * tm + tn;
    acc_0_0 = acc_0_0 + shared5[at7];
    acc_1_0 = acc_1_0 + shared5[at7 + 32];
    acc_2_0 = acc_2_0 + shared5[at7 + 64];
    acc_3_0 = acc_3_0 + shared5[at7 + 96];
  }
  workgroupBarrier();
  if (ks == 3i) {
    let at8 = 8 * tm + tn;
    shared5[at8] = acc_0_0;
    shared5[at8 + 32] = acc_1_0;
    shared5[at8 + 64] = acc_2_0;
    shared5[at8 + 96] = acc_3_0;
  }
  workgroupBarrier();
  if (ks == 0i) {
    let at9 = 8 * tm + tn;
    acc_0_0 = acc_0_0 + shared5[at9];
    acc_1_0 = acc_1_0 + shared5[at9 + 32];
    acc_2_0 = acc_2_0 + shared5[at9 + 64];
    acc_3_0 = acc_3_0 + shared5[at9 + 96];
  }
  if (ks == 0i) {
    if (tm < 9i) {
      if ((4 * tn) < 4i) {
        out2[tm + tn] = acc_0_0;
      }
    }
    if ((tm + 4) < 9i) {
      if ((4 * tn) < 4i) {
        out2[tm + tn + 4] = acc_1_0;
      }
    }
    if ((tm + 8) < 9i) {
      if ((4 * tn) < 4i) {
        out2[tm + tn + 8] = acc_2_0;
      }
    }
    if ((tm + 12) < 9i) {
      if ((4 * tn) < 4i) {
        out2[tm + tn + 12] = acc_3_0;
      }
    }
  }
}
