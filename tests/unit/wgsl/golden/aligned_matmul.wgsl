// n tile 4 · n x4 · k unroll 4 · order b,m,n · parallel b,m,n
// f32_matmul: 32 tiles, one an invocation
@group(0) @binding(0) var<storage, read> in0: array<f32>;
@group(0) @binding(1) var<storage, read> in1: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out2: array<vec4f>;

@compute @workgroup_size(64)
fn kernel(@builtin(global_invocation_id) id: vec3u) {
  let p = i32(id.x);
  if (p >= 32) {
    return;
  }
  let n_o = p % 4;
  let m_o = p / 4 % 8;
  var acc0_0: vec4f = vec4f(0.0f);
  for (var k = 0; k < 2; k++) {
    let at0 = 8 * m_o + 4 * k;
    let at1 = 16 * k + n_o;
    acc0_0 = fma(vec4f(in0[at0]), in1[at1], acc0_0);
    acc0_0 = fma(vec4f(in0[at0 + 1]), in1[at1 + 4], acc0_0);
    acc0_0 = fma(vec4f(in0[at0 + 2]), in1[at1 + 8], acc0_0);
    acc0_0 = fma(vec4f(in0[at0 + 3]), in1[at1 + 12], acc0_0);
  }
  out2[4 * m_o + n_o] = acc0_0;
}
