// f32_matmul: 2 tiles, one an invocation
@group(0) @binding(0) var<storage, read> in0: array<f32>;
@group(0) @binding(1) var<storage, read> in1: array<vec4f>;
@group(0) @binding(2) var<storage, read> in2: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> out3: array<f32>;

@compute @workgroup_size(64)
fn kernel(@builtin(global_invocation_id) id: vec3u) {
  let p = i32(id.x);
  if (p >= 2) {
    return;
  }
  let n_o = p % 2;
  if (n_o < 1) {
    for (var m_o = 0; m_o < 2; m_o++) {
      var acc0_0_0: vec4f = vec4f(0.0f);
      var acc0_0_4: vec4f = vec4f(0.0f);
      var acc0_1_0: vec4f = vec4f(0.0f);
      var acc0_1_4: vec4f = vec4f(0.0f);
      for (var k = 0; k < 3; k++) {
        let at0 = 14 * m_o + 2 * k;
        let t0 = vec4f(in0[at0]);
        let at1 = 14 * n_o + 4 * k;
        let t1 = in1[at1];
        acc0_0_0 = fma(t0, t1, acc0_0_0);
        let t2 = in1[at1 + 1];
        acc0_0_4 = fma(t0, t2, acc0_0_4);
        let t3 = vec4f(in0[at0 + 7]);
        acc0_1_0 = fma(t3, t1, acc0_1_0);
        acc0_1_4 = fma(t3, t2, acc0_1_4);
        let t4 = vec4f(in0[at0 + 1]);
        let t5 = in1[at1 + 2];
        acc0_0_0 = fma(t4, t5, acc0_0_0);
        let t6 = in1[at1 + 3];
        acc0_0_4 = fma(t4, t6, acc0_0_4);
        let t7 = vec4f(in0[at0 + 8]);
        acc0_1_0 = fma(t7, t5, acc0_1_0);
        acc0_1_4 = fma(t7, t6, acc0_1_4);
      }
      let at2 = 14 * m_o;
      let t8 = vec4f(in0[at2 + 6]);
      let at3 = 14 * n_o;
      let t9 = in1[at3 + 12];
      acc0_0_0 = fma(t8, t9, acc0_0_0);
      let t10 = in1[at3 + 13];
      acc0_0_4 = fma(t8, t10, acc0_0_4);
      let t11 = vec4f(in0[at2 + 13]);
      acc0_1_0 = fma(t11, t9, acc0_1_0);
      acc0_1_4 = fma(t11, t10, acc0_1_4);
      let at4 = 2 * n_o;
      let t12 = in2[at4];
      let t13 = max(acc0_0_0 + t12, vec4f(0.0f));
      let at5 = 22 * m_o + 8 * n_o;
      out3[at5] = t13.x;
      out3[at5 + 1] = t13.y;
      out3[at5 + 2] = t13.z;
      out3[at5 + 3] = t13.w;
      let t14 = in2[at4 + 1];
      let t15 = max(acc0_0_4 + t14, vec4f(0.0f));
      out3[at5 + 4] = t15.x;
      out3[at5 + 5] = t15.y;
      out3[at5 + 6] = t15.z;
      out3[at5 + 7] = t15.w;
      let t16 = max(acc0_1_0 + t12, vec4f(0.0f));
      out3[at5 + 11] = t16.x;
      out3[at5 + 12] = t16.y;
      out3[at5 + 13] = t16.z;
      out3[at5 + 14] = t16.w;
      let t17 = max(acc0_1_4 + t14, vec4f(0.0f));
      out3[at5 + 15] = t17.x;
      out3[at5 + 16] = t17.y;
      out3[at5 + 17] = t17.z;
      out3[at5 + 18] = t17.w;
    }
    var acc0_0_0: vec4f = vec4f(0.0f);
    var acc0_4_0: vec4f = vec4f(0.0f);
    for (var k = 0; k < 3; k++) {
      let at6 = 2 * k;
      let t18 = vec4f(in0[at6 + 28]);
      let at7 = 14 * n_o + 4 * k;
      acc0_0_0 = fma(t18, in1[at7], acc0_0_0);
      acc0_4_0 = fma(t18, in1[at7 + 1], acc0_4_0);
      let t19 = vec4f(in0[at6 + 29]);
      acc0_0_0 = fma(t19, in1[at7 + 2], acc0_0_0);
      acc0_4_0 = fma(t19, in1[at7 + 3], acc0_4_0);
    }
    let t20 = vec4f(in0[34]);
    let at8 = 14 * n_o;
    acc0_0_0 = fma(t20, in1[at8 + 12], acc0_0_0);
    acc0_4_0 = fma(t20, in1[at8 + 13], acc0_4_0);
    let at9 = 2 * n_o;
    let t21 = max(acc0_0_0 + in2[at9], vec4f(0.0f));
    let at10 = 8 * n_o;
    out3[at10 + 44] = t21.x;
    out3[at10 + 45] = t21.y;
    out3[at10 + 46] = t21.z;
    out3[at10 + 47] = t21.w;
    let t22 = max(acc0_4_0 + in2[at9 + 1], vec4f(0.0f));
    out3[at10 + 48] = t22.x;
    out3[at10 + 49] = t22.y;
    out3[at10 + 50] = t22.z;
    out3[at10 + 51] = t22.w;
  } else {
    for (var m_o = 0; m_o < 2; m_o++) {
      var acc0_0_0: vec4f = vec4f(0.0f);
      var acc0_1_0: vec4f = vec4f(0.0f);
      for (var k = 0; k < 3; k++) {
        let at11 = 14 * m_o + 2 * k;
        let at12 = 4 * k;
        let t23 = in1[at12 + 14];
        acc0_0_0 = fma(vec4f(in0[at11]), t23, acc0_0_0);
        acc0_1_0 = fma(vec4f(in0[at11 + 7]), t23, acc0_1_0);
        let t24 = in1[at12 + 16];
        acc0_0_0 = fma(vec4f(in0[at11 + 1]), t24, acc0_0_0);
        acc0_1_0 = fma(vec4f(in0[at11 + 8]), t24, acc0_1_0);
      }
      let at13 = 14 * m_o;
      let t25 = in1[26];
      acc0_0_0 = fma(vec4f(in0[at13 + 6]), t25, acc0_0_0);
      acc0_1_0 = fma(vec4f(in0[at13 + 13]), t25, acc0_1_0);
      let t26 = in2[2];
      let t27 = max(acc0_0_0 + t26, vec4f(0.0f));
      let at14 = 22 * m_o;
      out3[at14 + 8] = t27.x;
      out3[at14 + 9] = t27.y;
      out3[at14 + 10] = t27.z;
      let t28 = max(acc0_1_0 + t26, vec4f(0.0f));
      out3[at14 + 19] = t28.x;
      out3[at14 + 20] = t28.y;
      out3[at14 + 21] = t28.z;
    }
    var acc0_0_0: vec4f = vec4f(0.0f);
    for (var k = 0; k < 3; k++) {
      let at15 = 2 * k;
      let at16 = 4 * k;
      acc0_0_0 = fma(vec4f(in0[at15 + 28]), in1[at16 + 14], acc0_0_0);
      acc0_0_0 = fma(vec4f(in0[at15 + 29]), in1[at16 + 16], acc0_0_0);
    }
    acc0_0_0 = fma(vec4f(in0[34]), in1[26], acc0_0_0);
    let t29 = max(acc0_0_0 + in2[2], vec4f(0.0f));
    out3[52] = t29.x;
    out3[53] = t29.y;
    out3[54] = t29.z;
  }
}
