// pointwise: 2 tiles, one an invocation
@group(0) @binding(0) var<storage, read> in0: array<vec2i>;
@group(0) @binding(1) var<storage, read> in1: array<f32>;
@group(0) @binding(2) var<storage, read_write> out2: array<f32>;

fn infinity() -> f32 {
  // an expression of constants must not be infinite: the bits go through a variable
  var bits = 0x7f800000u;
  return bitcast<f32>(bits);
}

@compute @workgroup_size(64)
fn kernel(@builtin(global_invocation_id) id: vec3u) {
  let p = i32(id.x);
  if (p >= 2) {
    return;
  }
  let i0_o = p;
  if (i0_o < 1) {
    let at0 = 12 * i0_o;
    let t0 = 2 * vec4i(in0[at0].x, in0[at0 + 3].x, in0[at0 + 6].x, in0[at0 + 9].x);
    let t1 = max(vec4f(in1[t0.x], in1[t0.y], in1[t0.z], in1[t0.w]), vec4f(-infinity()));
    let at1 = 4 * i0_o;
    out2[at1] = t1.x;
    out2[at1 + 1] = t1.y;
    out2[at1 + 2] = t1.z;
    out2[at1 + 3] = t1.w;
  } else {
    let t2 = 12 + 3 * vec4i(0, 1, 1, 1);
    let t3 = 2 * vec4i(in0[t2.x].x, in0[t2.y].x, in0[t2.z].x, in0[t2.w].x);
    let t4 = max(vec4f(in1[t3.x], in1[t3.y], in1[t3.z], in1[t3.w]), vec4f(-infinity()));
    out2[4] = t4.x;
    out2[5] = t4.y;
  }
}
