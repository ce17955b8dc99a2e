"""Rewriters for operators whose meaning, name or attribute values changed from opset 7 on."""

from __future__ import annotations

import numpy as np

from .draft import Draft, upgrades
from .upgrade_scan import nest_scan


@upgrades("Softmax", "LogSoftmax", "Hardmax", until=13)
def softmax_of_matrix(draft: Draft) -> None:
    """Softmax(x) axis=a, which means all axes from a on together →
    Reshape(Softmax(Flatten(x, a), axis=-1), Shape(x))"""
    x = draft.x()
    axis = draft.attrs.get("axis", 1)
    draft.attrs["axis"] = -1
    if axis == -1:  # the last axis alone: the same in both
        return
    draft.inputs[0] = draft.before("Flatten", [x], axis=axis)
    new, old = draft.divert()
    shape = draft.before("Shape", [x])
    draft.after("Reshape", [new, shape], old)


@upgrades("Upsample", until=9)
def upsample_scales(draft: Draft) -> None:
    """Upsample(x) scales=[…] → Upsample(x, […])"""
    if "scales" in draft.attrs:
        scales = draft.attrs.pop("scales")
    else:  # opset 1
        scales = [1.0, 1.0, draft.attrs.pop("height_scale"), draft.attrs.pop("width_scale")]
    draft.set_input(1, draft.const(scales, np.float32))


@upgrades("Upsample", until=1 << 30)
@upgrades("Resize", until=11)
def resize_asymmetric(draft: Draft) -> None:
    """Upsample(x, scales), Resize-10(x, scales) → Resize(x, _, scales), asymmetric, nearest by floor"""
    x, scales = draft.x(), draft.x(1)
    draft.op = "Resize"
    draft.attrs.setdefault("mode", "nearest")
    if draft.attrs["mode"] == "bilinear":  # opset 1's name
        draft.attrs["mode"] = "linear"
    draft.attrs["coordinate_transformation_mode"] = "asymmetric"
    draft.attrs["nearest_mode"] = "floor"
    known = None if scales.const is None else scales.const.numpy()
    if draft.attrs["mode"] == "nearest" and known is not None and (known < 1).any():
        # The specification was silent; onnxruntime rounds up where it shrinks, and models rely on it.
        if (known > 1).any():
            grown = draft.const(np.maximum(known, 1), np.float32)
            x = draft.before("Resize", [x, None, grown], **draft.attrs)
            scales = draft.const(np.minimum(known, 1), np.float32)
        draft.attrs["nearest_mode"] = "ceil"
    draft.inputs = [x, None, scales]
    draft.version = 11  # what follows applies from there


@upgrades("Resize", until=13)
def resize_tf_half_pixel(draft: Draft) -> None:
    """tf_half_pixel_for_nn with floor, x = floor((i + 0.5) / scale) → half_pixel with round_prefer_ceil"""
    if draft.attrs.get("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        if draft.attrs.get("mode", "nearest") != "nearest" or draft.attrs.get("nearest_mode") != "floor":
            draft.refuse("tf_half_pixel_for_nn is known with nearest and floor only")
        draft.attrs["coordinate_transformation_mode"] = "half_pixel"
        draft.attrs["nearest_mode"] = "round_prefer_ceil"


@upgrades("Resize", until=18)
def resize_empty_inputs(draft: Draft) -> None:
    """Resize-11(x, roi, [], sizes): an empty constant stands for 'not given' → absent"""
    for i in (1, 2, 3):
        value = draft.input(i)
        if value is not None and value.const is not None and value.const.size == 0:
            draft.inputs[i] = None


@upgrades("BatchNormalization", until=9)
def batchnorm_spatial(draft: Draft) -> None:
    """spatial=0: one mean per activation → Add(Mul(Div(Sub(x, mean), Sqrt(Add(var, eps))), scale), bias)"""
    if draft.attrs.pop("spatial", 1):
        return
    x, scale, bias, mean, var = (draft.x(i) for i in range(5))
    eps = draft.before("CastLike", [draft.const(draft.attrs.pop("epsilon", 1e-5), np.float32), x])
    draft.attrs.pop("momentum", None)
    std = draft.before("Sqrt", [draft.before("Add", [var, eps])])
    normal = draft.before("Div", [draft.before("Sub", [x, mean]), std])
    draft.op = "Add"
    draft.inputs = [draft.before("Mul", [normal, scale]), bias]
    del draft.outputs[1:]


@upgrades("BatchNormalization", until=14)
def batchnorm_outputs(draft: Draft) -> None:
    """y, mean, var, saved_mean, saved_var = BatchNormalization(…) → y; the others belong to training"""
    del draft.outputs[1:]


@upgrades("Dropout", until=10)
def dropout_mask_type(draft: Draft) -> None:
    """y, mask: the mask had x's type → CastLike(mask, x)"""
    if draft.used(1):
        new, old = draft.divert(1)
        draft.after("CastLike", [new, draft.x()], old)


@upgrades("Dropout", until=12)
def dropout_inference(draft: Draft) -> None:
    """Dropout(x) ratio=r → Dropout(x): inference passes x through"""
    draft.attrs.pop("ratio", None)


@upgrades("Scatter", until=1 << 30)
def scatter_elements(draft: Draft) -> None:
    """Scatter → ScatterElements"""
    draft.op = "ScatterElements"


@upgrades("GridSample", until=20)
def gridsample_modes(draft: Draft) -> None:
    """mode=bilinear → linear, bicubic → cubic"""
    mode = draft.attrs.get("mode", "bilinear")
    draft.attrs["mode"] = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)


@upgrades("RoiAlign", until=16)
def roialign_half_pixel(draft: Draft) -> None:
    """no coordinate_transformation_mode → output_half_pixel, as it was"""
    draft.attrs.setdefault("coordinate_transformation_mode", "output_half_pixel")


@upgrades("GroupNormalization", until=21)
def groupnorm_per_group(draft: Draft) -> None:
    """GroupNormalization-18 has one scale a group →
    Reshape(InstanceNormalization(Reshape(x, [0, groups, -1]), scale, bias), Shape(x))"""
    x = draft.x()
    groups = draft.attrs.pop("num_groups")
    draft.op = "InstanceNormalization"
    draft.attrs.pop("stash_type", None)
    draft.inputs[0] = draft.before("Reshape", [x, draft.const([0, groups, -1])])
    new, old = draft.divert()
    draft.after("Reshape", [new, draft.before("Shape", [x])], old)


@upgrades("Scan", until=9)
def scan_batch(draft: Draft) -> None:
    """Scan-8 runs over a batch and time: Scan(lens, s, x) over axis 1 → a Scan-9 over the batch, whose
    body is the Scan-9 over time"""
    nest_scan(draft)
