"""The shaders that draw splats in the 3D view: EWA splatting as in the nodes, in a given order.

Sources: Zwicker et al., EWA Splatting (2001); Kerbl et al., 3D Gaussian Splatting (2023), section 4.
"""

from __future__ import annotations

import gpu
import numpy as np

ROW = 4096  # texels in a row of a texture that holds one value after another
SAME_DEPTH = "1e-5"  # of 1: dots whose rims differ by a pixel are not as far away either

_VALUE = """
vec4 value(sampler2D values, int index) { return texelFetch(values, ivec2(index % ROW, index / ROW), 0); }
"""
# Blender draws loose points as dots, which makes splats selectable, and writes their depth: it is not to hide
# splats. So the dots are drawn once more, into an image of the depths that they may have: some versions of
# Blender draw overlays a little nearer than what they are of.
_DOT_VERTEX = """
void main()
{
  int splat = int(value(order, gl_InstanceID).r);
  bool has_dot = value(shapes, 3 * splat + 2).g > 0.5;
  vec4 place = clip_from_object * vec4(value(shapes, 3 * splat).xyz, 1.0);
  gl_Position = has_dot ? place : vec4(2.0, 2.0, 2.0, 1.0);
  gl_PointSize = blender_dot.x - 1.0 + corner.x; /* neighbours count too, and show dots behind */
}
"""
_DOT_FRAGMENT = """
void main()
{
  vec2 from_middle = gl_PointCoord - vec2(0.5); /* Blender's are round */
  if (dot(from_middle, from_middle) > 0.25) { discard; }
  dot_depths = vec4(gl_FragCoord.z - blender_dot.y * gl_FragCoord.w, gl_FragCoord.z, 0.0, 0.0);
}
"""
_SPLAT_VERTEX = """

void main()
{
  int splat = int(value(order, gl_InstanceID).r);
  vec4 first = value(shapes, 3 * splat), second = value(shapes, 3 * splat + 1);
  float zz = value(shapes, 3 * splat + 2).r;
  colour = value(colours, splat);
  float k = sqrt(2.0 * log(max(colour.a * 255.0, 1.0)));
  vec3 p = (camera_from_object * vec4(first.xyz, 1.0)).xyz;
  bool perspective = lens2.z > 0.5;
  offset = vec2(0.0);
  if (k == 0.0 || (perspective && p.z > -NEAR)) {
    gl_Position = vec4(2.0, 2.0, 2.0, 1.0); /* outside */
    return;
  }
  mat3 m = mat3(camera_from_object);
  mat3 covariance = m * mat3(first.w, second.xy, second.x, second.zw, second.y, second.w, zz) * transpose(m);
  /* lens: [0 0], [1 1] and the shifts of the projection; in pixels, a unit at depth 1 is `focal` */
  vec2 half_px = 0.5 * screen.xy;
  vec2 focal = lens.xy * half_px;
  float per_depth = perspective ? -1.0 / p.z : 1.0;
  vec2 slope = vec2(0.0);
  if (perspective) {
    vec2 middle = lens.zw / lens.xy;
    slope = clamp(p.xy * per_depth, middle - 1.3 / lens.xy, middle + 1.3 / lens.xy);
  }
  vec3 row_x = focal.x * per_depth * vec3(1.0, 0.0, slope.x);
  vec3 row_y = focal.y * per_depth * vec3(0.0, 1.0, slope.y);
  float blur_x = focal.x * per_depth, blur_y = focal.y * per_depth;
  float a = dot(row_x, covariance * row_x) + screen.z * (1.0 + screen.w * blur_x * blur_x);
  float b = dot(row_x, covariance * row_y);
  float c = dot(row_y, covariance * row_y) + screen.z * (1.0 + screen.w * blur_y * blur_y);
  float l11 = sqrt(a), l21 = b / l11, l22 = sqrt(max(c - l21 * l21, 0.0));
  offset = k * corner;
  vec2 rim = vec2(l11 * offset.x, l21 * offset.x + l22 * offset.y) / half_px;
  vec2 centre = perspective ? lens.xy * p.xy * per_depth - lens.zw : lens.xy * p.xy + lens.zw;
  float depth = perspective ? -lens2.x + lens2.y * per_depth : lens2.x * p.z + lens2.y;
  gl_Position = vec4(centre + rim, depth, 1.0);
}
"""
_SPLAT_FRAGMENT = """
/* Whether a depth is that of a dot, or between dots: the rims of Blender's are not to the pixel where ours
 * are, and there another dot is seen. */
bool is_dot(float depth)
{
  ivec2 here = ivec2(gl_FragCoord.xy), last = textureSize(dots, 0) - 1;
  float nearest = 2.0, farthest = 0.0;
  for (int x = -1; x <= 1; x++) {
    for (int y = -1; y <= 1; y++) {
      vec2 own = texelFetch(dots, clamp(here + ivec2(x, y), ivec2(0), last), 0).rg;
      if (own.x < 1.5) { /* else there is none */
        nearest = min(nearest, own.x);
        farthest = max(farthest, own.y);
      }
    }
  }
  return nearest - SAME <= depth && depth <= farthest + SAME;
}

void main()
{
  float alpha = min(colour.a * exp(-0.5 * dot(offset, offset)), 0.99);
  if (alpha < 1.0 / 255.0) { discard; }
  if (mark.w > 0.5) {
    float before = texelFetch(depths, ivec2(gl_FragCoord.xy), 0).r;
    if (gl_FragCoord.z > before && !is_dot(before)) { discard; }
  }
  light = vec4(colour.rgb * alpha, alpha);
  chosen = vec4(mark.xy * alpha, 0.0, alpha);
}
"""
_FINISH_VERTEX = "void main() { gl_Position = vec4(corner, 0.0, 1.0); }"
# The overlays' texture mixes in linear light what is then shown as it is: values are encoded on the way in.
_FINISH_FRAGMENT = """
vec3 encoded(vec3 c)
{
  return mix(c * 12.92, 1.055 * pow(max(c, vec3(1e-8)), vec3(1.0 / 2.4)) - 0.055, step(0.0031308, c));
}
vec3 decoded(vec3 c)
{
  return mix(c / 12.92, pow((c + 0.055) / 1.055, vec3(2.4)), step(0.04045, c));
}

void main()
{
  ivec2 here = ivec2(gl_FragCoord.xy);
  vec4 splats = texelFetch(image, here, 0);
  vec3 shown = splats.rgb / max(splats.a, 1e-6);
  if (mode.x > 0.5) { shown = encoded(shown); }
  splats.rgb = clamp(shown, 0.0, 1.0) * splats.a;
  vec2 own = texelFetch(marks, here, 0).rg;
  vec2 most = vec2(0.0);
  for (int x = -1; x <= 1; x++) {
    for (int y = -1; y <= 1; y++) {
      most = max(most, texelFetch(marks, clamp(here + ivec2(x, y), ivec2(0), ivec2(mode.zw) - 1), 0).rg);
    }
  }
  if (most.r > 0.4 && own.r <= 0.4) { splats = most.g > 0.4 ? line_of_active : line_of_selected; }
  out_colour = mode.y > 0.5 ? vec4(decoded(splats.rgb), splats.a) : splats;
}
"""


def splat_shader() -> gpu.types.GPUShader:
    """Draws a Gaussian on every instance of a quad with corners at ±1."""
    info = gpu.types.GPUShaderCreateInfo()
    info.define("ROW", str(ROW))
    info.define("NEAR", "0.01")
    info.define("SAME", SAME_DEPTH)
    for slot, name in enumerate(("order", "shapes", "colours", "depths", "dots")):
        info.sampler(slot, "FLOAT_2D", name)
    info.push_constant("MAT4", "camera_from_object")
    for name in ("lens", "lens2", "screen", "mark"):
        info.push_constant("VEC4", name)
    between = gpu.types.GPUStageInterfaceInfo("diorama_splat")
    between.smooth("VEC2", "offset")
    between.flat("VEC4", "colour")
    return _shader(info, between, {"light": 0, "chosen": 1}, _VALUE + _SPLAT_VERTEX, _SPLAT_FRAGMENT)


def dot_shader() -> gpu.types.GPUShader:
    """Draws the depths of dots where Blender draws dots for loose points."""
    info = gpu.types.GPUShaderCreateInfo()
    info.define("ROW", str(ROW))
    info.sampler(0, "FLOAT_2D", "order")
    info.sampler(1, "FLOAT_2D", "shapes")
    info.push_constant("MAT4", "clip_from_object")
    info.push_constant("VEC4", "blender_dot")
    return _shader(info, None, {"dot_depths": 0}, _VALUE + _DOT_VERTEX, _DOT_FRAGMENT)


def finish_shader() -> gpu.types.GPUShader:
    """Lays the finished image over the view, with an outline around what is selected."""
    info = gpu.types.GPUShaderCreateInfo()
    info.sampler(0, "FLOAT_2D", "image")
    info.sampler(1, "FLOAT_2D", "marks")
    for name in ("mode", "line_of_selected", "line_of_active"):
        info.push_constant("VEC4", name)
    return _shader(info, None, {"out_colour": 0}, _FINISH_VERTEX, _FINISH_FRAGMENT)


def quad() -> gpu.types.GPUBatch:
    """Four corners at ±1, as a strip."""
    layout = gpu.types.GPUVertFormat()
    layout.attr_add(id="corner", comp_type="F32", len=2, fetch_mode="FLOAT")
    corners = gpu.types.GPUVertBuf(layout, 4)
    corners.attr_fill("corner", np.array([(-1, -1), (1, -1), (-1, 1), (1, 1)], np.float32))
    return gpu.types.GPUBatch(type="TRI_STRIP", buf=corners)


def point() -> gpu.types.GPUBatch:
    layout = gpu.types.GPUVertFormat()
    layout.attr_add(id="corner", comp_type="F32", len=2, fetch_mode="FLOAT")
    corner = gpu.types.GPUVertBuf(layout, 1)
    corner.attr_fill("corner", np.zeros((1, 2), np.float32))
    return gpu.types.GPUBatch(type="POINTS", buf=corner)


def texture(values: np.ndarray, form: str) -> gpu.types.GPUTexture:
    """Values one after another, `[N]` or `[N, 4]` float32, in rows of `ROW` texels."""
    width = 1 if values.ndim == 1 else values.shape[1]
    rows = max(-(-len(values) // ROW), 1)
    padded = np.zeros((rows * ROW, width), np.float32)
    padded[: len(values)] = values.reshape(-1, width)
    data = gpu.types.Buffer("FLOAT", padded.size, padded.ravel())
    return gpu.types.GPUTexture((ROW, rows), format=form, data=data)


def _shader(
    info: gpu.types.GPUShaderCreateInfo,
    between: gpu.types.GPUStageInterfaceInfo | None,
    outputs: dict[str, int],
    vertex: str,
    fragment: str,
) -> gpu.types.GPUShader:
    info.vertex_in(0, "VEC2", "corner")
    if between:
        info.vertex_out(between)
    for name, slot in outputs.items():
        info.fragment_out(slot, "VEC4", name)
    info.vertex_source(vertex)
    info.fragment_source(fragment)
    return gpu.shader.create_from_info(info)
