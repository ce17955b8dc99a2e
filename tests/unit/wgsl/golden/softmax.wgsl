// softmax: 3 tiles, one an invocation
@group(0) @binding(0) var<storage, read> in0: array<f32>;
@group(0) @binding(1) var<storage, read_write> out1: array<f32>;

fn infinity() -> f32 {
  // an expression of constants must not be infinite: the bits go through a variable
  var bits = 0x7f800000u;
  return bitcast<f32>(bits);
}

fn not_a_number() -> f32 {
  var bits = 0x7fc00000u;
  return bitcast<f32>(bits);
}

@compute @workgroup_size(64)
fn kernel(@builtin(global_invocation_id) id: vec3u) {
  let p = i32(id.x);
  if (p >= 3) {
    return;
  }
  let i_o = p;
  var acc0: vec4f = vec4f(-infinity());
  var nan0: vec4<bool> = vec4<bool>(false);
  for (var r = 0; r < 2; r++) {
    let at0 = 10 * i_o + 4 * r;
    var term0: vec4f = vec4f(in0[at0], in0[at0 + 1], in0[at0 + 2], in0[at0 + 3]);
    nan0 = nan0 | ((bitcast<vec4u>(term0) & vec4u(2147483647u)) > vec4u(2139095040u));
    acc0 = max(acc0, term0);
  }
  let at1 = 10 * i_o;
  var term0: vec4f = select(vec4f(-infinity()), vec4f(in0[at1 + 8], in0[at1 + 9], in0[at1 + 10], in0[at1 + 11]), vec4<bool>(true, true, false, false));
  nan0 = nan0 | ((bitcast<vec4u>(term0) & vec4u(2147483647u)) > vec4u(2139095040u));
  acc0 = max(acc0, term0);
  let t0 = select(acc0, vec4f(not_a_number()), nan0);
  acc0 = vec4f(max(max(t0.x, t0.z), max(t0.y, t0.w)));
  let top = acc0;
  var acc1: vec4f = vec4f(0.0f);
  for (var r = 0; r < 2; r++) {
    let at2 = 10 * i_o + 4 * r;
    acc1 = acc1 + exp(vec4f(in0[at2], in0[at2 + 1], in0[at2 + 2], in0[at2 + 3]) - top);
  }
  let at3 = 10 * i_o;
  let t1 = select(vec4f(0.0f), exp(vec4f(in0[at3 + 8], in0[at3 + 9], in0[at3 + 10], in0[at3 + 11]) - top), vec4<bool>(true, true, false, false));
  acc1 = acc1 + t1;
  acc1 = vec4f((acc1.x + acc1.z) + (acc1.y + acc1.w));
  let total = 1.0f / acc1;
  for (var r_o = 0; r_o < 2; r_o++) {
    let at4 = 10 * i_o + 4 * r_o;
    let t2 = exp(vec4f(in0[at4], in0[at4 + 1], in0[at4 + 2], in0[at4 + 3]) - top) * total;
    out1[at4] = t2.x;
    out1[at4 + 1] = t2.y;
    out1[at4 + 2] = t2.z;
    out1[at4 + 3] = t2.w;
  }
  let at5 = 10 * i_o;
  let t3 = exp(vec4f(in0[at5 + 8], in0[at5 + 9], in0[at5 + 10], in0[at5 + 11]) - top) * total;
  out1[at5 + 8] = t3.x;
  out1[at5 + 9] = t3.y;
}
