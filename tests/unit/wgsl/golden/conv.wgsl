// f32_conv: 9 tiles, one an invocation
@group(0) @binding(0) var<storage, read> in0: array<f32>;
@group(0) @binding(1) var<storage, read> in1: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out2: array<vec4f>;

@compute @workgroup_size(64)
fn kernel(@builtin(global_invocation_id) id: vec3u) {
  let p = i32(id.x);
  if (p >= 9) {
    return;
  }
  let q_o = p % 3;
  let p_o = p / 3 % 3;
  var acc0_0: vec4f = vec4f(0.0f);
  for (var ky = 0; ky < 3; ky++) {
    for (var kx = 0; kx < 3; kx++) {
      let at0 = 30 * p_o + 15 * ky + 6 * q_o + 3 * kx;
      let t0 = 2 * p_o + ky - 1;
      let t1 = t0 >= 0i;
      let t2 = t0 < 5i;
      let t3 = 2 * q_o + kx - 1;
      let t4 = t3 >= 0i;
      let t5 = t3 < 5i;
      let at1 = 9 * ky + 3 * kx;
      acc0_0 = fma(select(vec4f(0.0f), vec4f(in0[at0 - 18]), t1 & t2 & t4 & t5), in1[at1], acc0_0);
      acc0_0 = fma(select(vec4f(0.0f), vec4f(in0[at0 - 17]), t1 & t2 & t4 & t5), in1[at1 + 1], acc0_0);
      acc0_0 = fma(select(vec4f(0.0f), vec4f(in0[at0 - 16]), t1 & t2 & t4 & t5), in1[at1 + 2], acc0_0);
    }
  }
  out2[3 * p_o + q_o] = acc0_0;
}
