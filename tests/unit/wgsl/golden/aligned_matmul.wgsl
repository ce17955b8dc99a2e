// rows = b.m · rows tile 32 · rows threads 8 · n tile 32 · n threads 8 · n x4 · k cache 16
// f32_matmul: 1 tile, 64 threads each
@group(0) @binding(0) var<storage, read> in0: array<vec4f>;
@group(0) @binding(1) var<storage, read> in1: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out2: array<vec4f>;
var<workgroup> shared3: array<vec4f, 128>;
var<workgroup> shared4: array<vec4f, 128>;

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
  var acc_1_0: vec4f = vec4f(0.0f);
  var acc_2_0: vec4f = vec4f(0.0f);
  var acc_3_0: vec4f = vec4f(0.0f);
  let a_x = thread % 4;
  let a_y = thread / 4;
  let b_x = thread % 8;
  let b_y = thread / 8;
  let t0 = (4 * a_x + vec4i(0, 1, 2, 3)) < vec4i(8i);
  let at0 = 2 * a_y + a_x;
  let a_t0 = select(vec4f(0.0f), in0[at0], t0);
  let a_t1 = select(vec4f(0.0f), in0[at0 + 32], t0);
  let at1 = 4 * b_y + b_x;
  let b_t0 = select(vec4f(0.0f), in1[at1], vec4i(b_y) < vec4i(8i));
  let b_t1 = select(vec4f(0.0f), in1[at1 + 32], vec4i(b_y + 8) < vec4i(8i));
  let at2 = 4 * a_y + a_x;
  shared3[at2] = a_t0;
  shared3[at2 + 64] = a_t1;
  let at3 = 8 * b_y + b_x;
  shared4[at3] = b_t0;
  shared4[at3 + 64] = b_t1;
  workgroupBarrier();
  for (var k_i = 0; k_i < 4; k_i++) {
    let at4 = 4 * tm + k_i;
    let a_0 = shared3[at4];
    let a_1 = shared3[at4 + 32];
    let a_2 = shared3[at4 + 64];
    let a_3 = shared3[at4 + 96];
    let at5 = 32 * k_i + tn;
    var b_0: vec4f = shared4[at5];
    acc_0_0 = fma(vec4f(a_0.x), b_0, acc_0_0);
    acc_1_0 = fma(vec4f(a_1.x), b_0, acc_1_0);
    acc_2_0 = fma(vec4f(a_2.x), b_0, acc_2_0);
    acc_3_0 = fma(vec4f(a_3.x), b_0, acc_3_0);
    b_0 = shared4[at5 + 8];
    acc_0_0 = fma(vec4f(a_0.y), b_0, acc_0_0);
    acc_1_0 = fma(vec4f(a_1.y), b_0, acc_1_0);
    acc_2_0 = fma(vec4f(a_2.y), b_0, acc_2_0);
    acc_3_0 = fma(vec4f(a_3.y), b_0, acc_3_0);
    b_0 = shared4[at5 + 16];
    acc_0_0 = fma(vec4f(a_0.z), b_0, acc_0_0);
    acc_1_0 = fma(vec4f(a_1.z), b_0, acc_1_0);
    acc_2_0 = fma(vec4f(a_2.z), b_0, acc_2_0);
    acc_3_0 = fma(vec4f(a_3.z), b_0, acc_3_0);
    b_0 = shared4[at5 + 24];
    acc_0_0 = fma(vec4f(a_0.w), b_0, acc_0_0);
    acc_1_0 = fma(vec4f(a_1.w), b_0, acc_1_0);
    acc_2_0 = fma(vec4f(a_2.w), b_0, acc_2_0);
    acc_3_0 = fma(vec4f(a_3.w), b_0, acc_3_0);
  }
  if (tm < 8i) {
    if ((4 * tn) < 16i) {
      out2[4 * tm + tn] = acc_0_0;
    }
  }
  if ((tm + 8) < 8i) {
    if ((4 * tn) < 16i) {
      out2[4 * tm + tn + 32] = acc_1_0;
    }
  }
  if ((tm + 16) < 8i) {
    if ((4 * tn) < 16i) {
      out2[4 * tm + tn + 64] = acc_2_0;
    }
  }
  if ((tm + 24) < 8i) {
    if ((4 * tn) < 16i) {
      out2[4 * tm + tn + 96] = acc_3_0;
    }
  }
}
