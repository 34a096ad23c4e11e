"""Splats to ellipses on the graphics card: projection of 3D Gaussians and its hand-written adjoint.

One thread a splat. Warp's own adjoints are not used: they are wrong through loops of unknown length.
"""

# mypy: ignore-errors
# ruff: noqa: PLR0915
# Warp gives these functions their types; float(1.0) is how it declares a variable.
import warp as wp

from ..stages import ALPHA_MIN, BLUR_SIGMAS

BLOCK = 256
_ALPHA_MIN, _BLUR_SIGMAS = wp.constant(wp.float32(ALPHA_MIN)), wp.constant(wp.float32(BLUR_SIGMAS))
vec12 = wp.types.vector(length=12, dtype=wp.float32)


@wp.struct
class Lens:
    """`stages.Camera`, with what the adjoint needs of it."""

    width: float
    height: float
    near: float
    far: float
    radius_clip: float
    eps2d: float
    perspective: float  # 1, or 0 for an orthographic camera


@wp.struct
class Seen:
    """One splat before one camera: the middle results that projection and its adjoint share."""

    point: wp.vec3  # x / z, y / z, z in the camera; x, y, z for an orthographic one
    held: wp.vec2  # 1 where the tangent was held back at the border, else 0
    tangent: wp.vec2  # x / z, y / z where the perspective map is linearised
    scale: wp.vec2  # focal length / z, or focal length
    row_x: wp.vec3  # rows of jacobian @ rotation
    row_y: wp.vec3


@wp.func
def rotation_of(viewmat: wp.mat44):
    return wp.mat33(
        viewmat[0, 0], viewmat[0, 1], viewmat[0, 2],
        viewmat[1, 0], viewmat[1, 1], viewmat[1, 2],
        viewmat[2, 0], viewmat[2, 1], viewmat[2, 2],
    )  # fmt: skip


@wp.func
def turned(quat: wp.vec4):
    """Rotation matrix of a unit quaternion w, x, y, z."""
    w, x, y, z = quat[0], quat[1], quat[2], quat[3]
    return wp.mat33(
        1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y),
        2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x),
        2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y),
    )  # fmt: skip


@wp.func
def unit(quat: wp.vec4):
    return quat / wp.max(wp.length(quat), 1.0e-12)


@wp.func
def covariance(quat: wp.vec4, scale: wp.vec3):
    axes = turned(unit(quat)) * wp.diag(scale)
    return axes * wp.transpose(axes)


@wp.func
def see(mean: wp.vec3, viewmat: wp.mat44, K: wp.mat33, lens: Lens):
    turn = rotation_of(viewmat)
    p = turn * mean + wp.vec3(viewmat[0, 3], viewmat[1, 3], viewmat[2, 3])
    seen = Seen()
    shrink = wp.where(lens.perspective > 0.0, p[2], 1.0)
    seen.point = wp.vec3(p[0] / shrink, p[1] / shrink, p[2])
    margin = wp.vec2(0.15 * lens.width / K[0, 0], 0.15 * lens.height / K[1, 1])  # see reference.project
    low = wp.vec2(-K[0, 2] / K[0, 0] - margin[0], -K[1, 2] / K[1, 1] - margin[1])
    high = wp.vec2(
        (lens.width - K[0, 2]) / K[0, 0] + margin[0], (lens.height - K[1, 2]) / K[1, 1] + margin[1]
    )
    seen.tangent = lens.perspective * wp.vec2(
        wp.min(wp.max(seen.point[0], low[0]), high[0]), wp.min(wp.max(seen.point[1], low[1]), high[1])
    )
    seen.held = wp.vec2(
        wp.where(seen.tangent[0] == seen.point[0], 0.0, 1.0),
        wp.where(seen.tangent[1] == seen.point[1], 0.0, 1.0),
    )
    seen.scale = wp.vec2(K[0, 0] / shrink, K[1, 1] / shrink)
    seen.row_x = seen.scale[0] * (turn[0] - seen.tangent[0] * turn[2])
    seen.row_y = seen.scale[1] * (turn[1] - seen.tangent[1] * turn[2])
    return seen


@wp.kernel(enable_backward=False)
def project(
    means: wp.array2d[wp.vec3],  # [B, N]
    quats: wp.array2d[wp.vec4],
    scales: wp.array2d[wp.vec3],
    opacities: wp.array2d[float],
    viewmats: wp.array2d[wp.mat44],  # [B, C]
    Ks: wp.array2d[wp.mat33],
    lens: Lens,
    means2d: wp.array2d[wp.vec2],  # [I, N]; all outputs come in as zeros
    conics: wp.array2d[wp.vec3],
    depths: wp.array2d[float],
    compensations: wp.array2d[float],
    radii: wp.array2d[wp.vec2i],
):
    image, n = wp.tid()
    b = image // viewmats.shape[1]
    c = image % viewmats.shape[1]
    viewmat, K, mean, opacity = viewmats[b, c], Ks[b, c], means[b, n], opacities[b, n]
    z = viewmat[2, 0] * mean[0] + viewmat[2, 1] * mean[1] + viewmat[2, 2] * mean[2] + viewmat[2, 3]
    if not (z >= lens.near and z <= lens.far and opacity >= _ALPHA_MIN):
        return
    seen = see(mean, viewmat, K, lens)
    cov = covariance(quats[b, n], scales[b, n])
    sharp_xx = wp.dot(seen.row_x, cov * seen.row_x)
    xy = wp.dot(seen.row_x, cov * seen.row_y)
    sharp_yy = wp.dot(seen.row_y, cov * seen.row_y)
    xx, yy = sharp_xx + lens.eps2d, sharp_yy + lens.eps2d
    determinant = xx * yy - xy * xy
    if not (determinant > 0.0):
        return
    reach = wp.min(_BLUR_SIGMAS, wp.sqrt(2.0 * wp.log(opacity / _ALPHA_MIN)))
    rx, ry = wp.ceil(reach * wp.sqrt(xx)), wp.ceil(reach * wp.sqrt(yy))
    px, py = K[0, 0] * seen.point[0] + K[0, 2], K[1, 1] * seen.point[1] + K[1, 2]
    inside = px + rx > 0.0 and px - rx < lens.width and py + ry > 0.0 and py - ry < lens.height
    if wp.max(rx, ry) <= lens.radius_clip or not inside:
        return
    means2d[image, n] = wp.vec2(px, py)
    conics[image, n] = wp.vec3(yy, -xy, xx) / determinant
    depths[image, n] = z
    compensations[image, n] = wp.sqrt(wp.max(0.0, (sharp_xx * sharp_yy - xy * xy) / determinant))
    radii[image, n] = wp.vec2i(int(wp.min(rx, 1.0e9)), int(wp.min(ry, 1.0e9)))


@wp.kernel(enable_backward=False)
def project_adjoint(
    means: wp.array2d[wp.vec3],
    quats: wp.array2d[wp.vec4],
    scales: wp.array2d[wp.vec3],
    viewmats: wp.array2d[wp.mat44],
    Ks: wp.array2d[wp.mat33],
    lens: Lens,
    conics: wp.array2d[wp.vec3],
    compensations: wp.array2d[float],
    radii: wp.array2d[wp.vec2i],
    v_means2d: wp.array2d[wp.vec2],
    v_conics: wp.array2d[wp.vec3],
    v_depths: wp.array2d[float],
    v_compensations: wp.array2d[float],
    wants_viewmats: int,
    v_means: wp.array2d[wp.vec3],
    v_quats: wp.array2d[wp.vec4],
    v_scales: wp.array2d[wp.vec3],
    v_viewmats: wp.array2d[vec12],  # [B, C] the upper rows, added to
):
    b, chunk, thread = wp.tid()
    n = chunk * BLOCK + thread
    alive = n < means.shape[1]
    m = wp.min(n, means.shape[1] - 1)  # threads past the end compute, but write nothing
    mean, quat, scale = means[b, m], quats[b, m], scales[b, m]
    cov = covariance(quat, scale)
    v_mean, v_cov = wp.vec3(), wp.mat33()
    for c in range(
        viewmats.shape[1]
    ):  # every thread of a block takes all turns: they sum v_viewmats together
        image = b * viewmats.shape[1] + c
        v_viewmat = vec12()
        if alive and radii[image, m][0] > 0:
            viewmat, K = viewmats[b, c], Ks[b, c]
            seen = see(mean, viewmat, K, lens)
            # d(inverse) = -inverse d inverse: the gradient to the blurred 2D covariance, [[g, h], [h, k]].
            conic, v_conic = conics[image, m], v_conics[image, m]
            inverse = wp.mat22(conic[0], conic[1], conic[1], conic[2])
            G = -(inverse * wp.mat22(v_conic[0], 0.5 * v_conic[1], 0.5 * v_conic[1], v_conic[2]) * inverse)
            compensation = compensations[image, m]
            if compensation > 0.0:  # compensation^2 = det(sharp) / det(blurred)
                half = 0.5 * v_compensations[image, m] / compensation
                blur = lens.eps2d * wp.determinant(inverse)
                G += half * ((1.0 - compensation * compensation) * inverse - wp.mat22(blur, 0.0, 0.0, blur))
            # To the rows of T and to the world covariance.
            cov_x, cov_y = cov * seen.row_x, cov * seen.row_y
            v_row_x = 2.0 * (G[0, 0] * cov_x + G[0, 1] * cov_y)
            v_row_y = 2.0 * (G[0, 1] * cov_x + G[1, 1] * cov_y)
            v_cov += wp.outer(seen.row_x, G[0, 0] * seen.row_x + G[0, 1] * seen.row_y)
            v_cov += wp.outer(seen.row_y, G[0, 1] * seen.row_x + G[1, 1] * seen.row_y)
            # To the point in the camera.
            turn = rotation_of(viewmat)
            perspective = lens.perspective
            shrink = wp.where(perspective > 0.0, seen.point[2], 1.0)
            v_scale_x, v_scale_y = wp.dot(v_row_x, seen.row_x), wp.dot(v_row_y, seen.row_y)  # times the scale
            v_tangent_x = -perspective * (1.0 - seen.held[0]) * seen.scale[0] * wp.dot(v_row_x, turn[2])
            v_tangent_y = -perspective * (1.0 - seen.held[1]) * seen.scale[1] * wp.dot(v_row_y, turn[2])
            v_x = (v_means2d[image, m][0] * K[0, 0] + v_tangent_x) / shrink
            v_y = (v_means2d[image, m][1] * K[1, 1] + v_tangent_y) / shrink
            v_z = v_depths[image, m] - perspective * (
                v_x * seen.point[0] + v_y * seen.point[1] + (v_scale_x + v_scale_y) / shrink
            )
            v_mean += v_x * turn[0] + v_y * turn[1] + v_z * turn[2]
            row_x = v_x * mean + seen.scale[0] * v_row_x
            row_y = v_y * mean + seen.scale[1] * v_row_y
            row_z = (
                v_z * mean
                - (seen.scale[0] * seen.tangent[0]) * v_row_x
                - (seen.scale[1] * seen.tangent[1]) * v_row_y
            )
            v_viewmat = vec12(
                row_x[0], row_x[1], row_x[2], v_x,
                row_y[0], row_y[1], row_y[2], v_y,
                row_z[0], row_z[1], row_z[2], v_z,
            )  # fmt: skip
        if wants_viewmats != 0:
            together = wp.tile_sum(wp.tile(v_viewmat, preserve_type=True))
            if thread == 0:
                wp.atomic_add(v_viewmats, b, c, together[0])
    if not alive:
        return
    v_means[b, n] = v_mean
    # covariance = axes axes^t with axes = R diag(scale).
    length = wp.max(wp.length(quat), 1.0e-12)
    q = quat / length
    R = turned(q)
    v_axes = (v_cov + wp.transpose(v_cov)) * R * wp.diag(scale)
    v_scales[b, n] = wp.vec3(
        wp.dot(wp.transpose(v_axes)[0], wp.transpose(R)[0]),
        wp.dot(wp.transpose(v_axes)[1], wp.transpose(R)[1]),
        wp.dot(wp.transpose(v_axes)[2], wp.transpose(R)[2]),
    )
    t = v_axes * wp.diag(scale)
    w, x, y, z = q[0], q[1], q[2], q[3]
    v_q = 2.0 * wp.vec4(
        x * (t[2, 1] - t[1, 2]) + y * (t[0, 2] - t[2, 0]) + z * (t[1, 0] - t[0, 1]),
        y * (t[1, 0] + t[0, 1])
        + z * (t[2, 0] + t[0, 2])
        + w * (t[2, 1] - t[1, 2])
        - 2.0 * x * (t[1, 1] + t[2, 2]),
        x * (t[1, 0] + t[0, 1])
        + z * (t[2, 1] + t[1, 2])
        + w * (t[0, 2] - t[2, 0])
        - 2.0 * y * (t[0, 0] + t[2, 2]),
        x * (t[2, 0] + t[0, 2])
        + y * (t[2, 1] + t[1, 2])
        + w * (t[1, 0] - t[0, 1])
        - 2.0 * z * (t[0, 0] + t[1, 1]),
    )
    v_quats[b, n] = (v_q - wp.dot(v_q, q) * q) / length
