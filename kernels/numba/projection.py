"""Splats to ellipses on the processor: projection of 3D Gaussians and its hand-written adjoint."""

# (numba gives these functions their types)
from __future__ import annotations

import numpy as np

from ..stages import ALPHA_MIN, BLUR_SIGMAS
from .jit import inline, jit

_F = np.float32
_ZERO, _HALF, _ONE, _TWO = _F(0), _F(0.5), _F(1), _F(2)
_ALPHA_MIN, _BLUR_SIGMAS, _MARGIN = _F(ALPHA_MIN), _F(BLUR_SIGMAS), _F(0.15)


@inline
def _rotation(w, x, y, z):
    """Rotation matrix of a unit quaternion, row by row."""
    return (
        _ONE - _TWO * (y * y + z * z), _TWO * (x * y - w * z), _TWO * (x * z + w * y),
        _TWO * (x * y + w * z), _ONE - _TWO * (x * x + z * z), _TWO * (y * z - w * x),
        _TWO * (x * z - w * y), _TWO * (y * z + w * x), _ONE - _TWO * (x * x + y * y),
    )  # fmt: skip


@jit
def covariances(first, last, quats, scales, covs):
    """World covariances of Gaussians first..last: quats [N, 4], scales [N, 3] to covs [N, 6]."""
    for n in range(first, last):
        w, x, y, z = quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3]
        length = _ONE / max(np.sqrt(w * w + x * x + y * y + z * z), _F(1e-12))
        a, b, c, d, e, f, g, h, i = _rotation(w * length, x * length, y * length, z * length)
        s, t, u = scales[n, 0] * scales[n, 0], scales[n, 1] * scales[n, 1], scales[n, 2] * scales[n, 2]
        covs[n, 0] = a * a * s + b * b * t + c * c * u
        covs[n, 1] = a * d * s + b * e * t + c * f * u
        covs[n, 2] = a * g * s + b * h * t + c * i * u
        covs[n, 3] = d * d * s + e * e * t + f * f * u
        covs[n, 4] = d * g * s + e * h * t + f * i * u
        covs[n, 5] = g * g * s + h * h * t + i * i * u


@inline
def _tangent(ratio, focal, centre, size, perspective):
    """Where the perspective map is linearised (see reference.project); also whether it was held back."""
    low = -(centre + _MARGIN * size) / focal
    high = (size - centre + _MARGIN * size) / focal
    if not perspective:
        return _ZERO, True
    return min(max(ratio, low), high), ratio < low or ratio > high


@jit
def project(
    first, last, means, covs, opacities, viewmat, K,
    width, height, near, far, radius_clip, eps2d, perspective,
    means2d, conics, depths, compensations, radii,
):  # fmt: skip
    """Projects Gaussians first..last into one image; outputs must come in as zeros."""
    r00, r01, r02, tx = viewmat[0, 0], viewmat[0, 1], viewmat[0, 2], viewmat[0, 3]
    r10, r11, r12, ty = viewmat[1, 0], viewmat[1, 1], viewmat[1, 2], viewmat[1, 3]
    r20, r21, r22, tz = viewmat[2, 0], viewmat[2, 1], viewmat[2, 2], viewmat[2, 3]
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    for n in range(first, last):
        mx, my, mz = means[n, 0], means[n, 1], means[n, 2]
        z = r20 * mx + r21 * my + r22 * mz + tz
        if not (near <= z <= far) or opacities[n] < _ALPHA_MIN:
            continue
        inverse_z = _ONE / z if perspective else _ONE
        x = (r00 * mx + r01 * my + r02 * mz + tx) * inverse_z
        y = (r10 * mx + r11 * my + r12 * mz + ty) * inverse_z
        u, _ = _tangent(x, fx, cx, width, perspective)
        v, _ = _tangent(y, fy, cy, height, perspective)
        # The two rows of T = jacobian @ rotation, then T covariance T^t.
        jx, jy = fx * inverse_z, fy * inverse_z
        a0, a1, a2 = jx * (r00 - u * r20), jx * (r01 - u * r21), jx * (r02 - u * r22)
        b0, b1, b2 = jy * (r10 - v * r20), jy * (r11 - v * r21), jy * (r12 - v * r22)
        c0, c1, c2, c3, c4, c5 = covs[n, 0], covs[n, 1], covs[n, 2], covs[n, 3], covs[n, 4], covs[n, 5]
        p0, p1, p2 = c0 * a0 + c1 * a1 + c2 * a2, c1 * a0 + c3 * a1 + c4 * a2, c2 * a0 + c4 * a1 + c5 * a2
        q0, q1, q2 = c0 * b0 + c1 * b1 + c2 * b2, c1 * b0 + c3 * b1 + c4 * b2, c2 * b0 + c4 * b1 + c5 * b2
        sxx, xy, syy = a0 * p0 + a1 * p1 + a2 * p2, a0 * q0 + a1 * q1 + a2 * q2, b0 * q0 + b1 * q1 + b2 * q2
        xx, yy = sxx + eps2d, syy + eps2d
        determinant = xx * yy - xy * xy
        if not determinant > _ZERO:
            continue
        reach = min(_BLUR_SIGMAS, np.sqrt(_TWO * np.log(opacities[n] / _ALPHA_MIN)))
        rx, ry = np.ceil(reach * np.sqrt(xx)), np.ceil(reach * np.sqrt(yy))
        px, py = fx * x + cx, fy * y + cy
        if max(rx, ry) <= radius_clip or not (
            px + rx > _ZERO and px - rx < width and py + ry > _ZERO and py - ry < height
        ):
            continue
        inverse = _ONE / determinant
        means2d[n, 0], means2d[n, 1] = px, py
        conics[n, 0], conics[n, 1], conics[n, 2] = yy * inverse, -xy * inverse, xx * inverse
        depths[n] = z
        compensations[n] = np.sqrt(max(_ZERO, (sxx * syy - xy * xy) * inverse))
        radii[n, 0], radii[n, 1] = np.int32(min(rx, _F(1e9))), np.int32(min(ry, _F(1e9)))


@jit
def project_adjoint(  # noqa: PLR0915
    first, last, means, covs, viewmat, K, width, height, eps2d, perspective,
    conics, compensations, radii, v_means2d, v_conics, v_depths, v_compensations,
    v_means, v_covs, v_viewmat,
):  # fmt: skip
    """Adds an image's share to v_means [N, 3] and v_covs [N, 6] (each entry once); sets v_viewmat [4, 4]."""
    r00, r01, r02, tx = viewmat[0, 0], viewmat[0, 1], viewmat[0, 2], viewmat[0, 3]
    r10, r11, r12, ty = viewmat[1, 0], viewmat[1, 1], viewmat[1, 2], viewmat[1, 3]
    r20, r21, r22, tz = viewmat[2, 0], viewmat[2, 1], viewmat[2, 2], viewmat[2, 3]
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    w00 = w01 = w02 = w03 = w10 = w11 = w12 = w13 = w20 = w21 = w22 = w23 = 0.0  # float64: a sum over N
    for n in range(first, last):
        if radii[n, 0] == 0:
            continue
        mx, my, mz = means[n, 0], means[n, 1], means[n, 2]
        z = r20 * mx + r21 * my + r22 * mz + tz
        inverse_z = _ONE / z if perspective else _ONE
        x = (r00 * mx + r01 * my + r02 * mz + tx) * inverse_z
        y = (r10 * mx + r11 * my + r12 * mz + ty) * inverse_z
        u, u_held = _tangent(x, fx, cx, width, perspective)
        v, v_held = _tangent(y, fy, cy, height, perspective)
        jx, jy = fx * inverse_z, fy * inverse_z
        d0, d1, d2 = r00 - u * r20, r01 - u * r21, r02 - u * r22
        e0, e1, e2 = r10 - v * r20, r11 - v * r21, r12 - v * r22
        a0, a1, a2, b0, b1, b2 = jx * d0, jx * d1, jx * d2, jy * e0, jy * e1, jy * e2
        c0, c1, c2, c3, c4, c5 = covs[n, 0], covs[n, 1], covs[n, 2], covs[n, 3], covs[n, 4], covs[n, 5]
        p0, p1, p2 = c0 * a0 + c1 * a1 + c2 * a2, c1 * a0 + c3 * a1 + c4 * a2, c2 * a0 + c4 * a1 + c5 * a2
        q0, q1, q2 = c0 * b0 + c1 * b1 + c2 * b2, c1 * b0 + c3 * b1 + c4 * b2, c2 * b0 + c4 * b1 + c5 * b2

        # d(inverse) = -inverse d inverse; G = [[g, h], [h, k]] is the gradient to the blurred 2D covariance.
        A, B, C = conics[n, 0], conics[n, 1], conics[n, 2]
        vA, vB, vC = v_conics[n, 0], _HALF * v_conics[n, 1], v_conics[n, 2]
        s, t = A * vA + B * vB, A * vB + B * vC
        o, i = B * vA + C * vB, B * vB + C * vC
        g, h, k = -(s * A + t * B), -(s * B + t * C), -(o * B + i * C)
        compensation = compensations[n]
        if compensation > _ZERO:  # compensation^2 = det(sharp) / det(blurred)
            half = _HALF * v_compensations[n] / compensation
            squared = compensation * compensation
            inverse = A * C - B * B  # 1 / det(blurred)
            g += half * (A - squared * A - eps2d * inverse)
            h += half * (B - squared * B)
            k += half * (C - squared * C - eps2d * inverse)

        # G to T (rows a, b) and to the world covariance.
        va0, va1, va2 = _TWO * (g * p0 + h * q0), _TWO * (g * p1 + h * q1), _TWO * (g * p2 + h * q2)
        vb0, vb1, vb2 = _TWO * (h * p0 + k * q0), _TWO * (h * p1 + k * q1), _TWO * (h * p2 + k * q2)
        ga0, ga1, ga2 = g * a0 + h * b0, g * a1 + h * b1, g * a2 + h * b2
        gb0, gb1, gb2 = h * a0 + k * b0, h * a1 + k * b1, h * a2 + k * b2
        v_covs[n, 0] += a0 * ga0 + b0 * gb0
        v_covs[n, 1] += a0 * ga1 + b0 * gb1 + a1 * ga0 + b1 * gb0
        v_covs[n, 2] += a0 * ga2 + b0 * gb2 + a2 * ga0 + b2 * gb0
        v_covs[n, 3] += a1 * ga1 + b1 * gb1
        v_covs[n, 4] += a1 * ga2 + b1 * gb2 + a2 * ga1 + b2 * gb1
        v_covs[n, 5] += a2 * ga2 + b2 * gb2

        # T = j * (r_row - tangent * r_depth) to the point in the camera.
        v_jx, v_jy = va0 * d0 + va1 * d1 + va2 * d2, vb0 * e0 + vb1 * e1 + vb2 * e2
        v_u = _ZERO if u_held else -jx * (va0 * r20 + va1 * r21 + va2 * r22)
        v_v = _ZERO if v_held else -jy * (vb0 * r20 + vb1 * r21 + vb2 * r22)
        v_x = (v_means2d[n, 0] * fx + v_u) * inverse_z
        v_y = (v_means2d[n, 1] * fy + v_v) * inverse_z
        v_z = v_depths[n]
        if perspective:
            v_z -= v_x * x + v_y * y + (v_jx * jx + v_jy * jy) * inverse_z
        v_means[n, 0] += r00 * v_x + r10 * v_y + r20 * v_z
        v_means[n, 1] += r01 * v_x + r11 * v_y + r21 * v_z
        v_means[n, 2] += r02 * v_x + r12 * v_y + r22 * v_z

        w00 += v_x * mx + jx * va0
        w01 += v_x * my + jx * va1
        w02 += v_x * mz + jx * va2
        w03 += v_x
        w10 += v_y * mx + jy * vb0
        w11 += v_y * my + jy * vb1
        w12 += v_y * mz + jy * vb2
        w13 += v_y
        w20 += v_z * mx - jx * u * va0 - jy * v * vb0
        w21 += v_z * my - jx * u * va1 - jy * v * vb1
        w22 += v_z * mz - jx * u * va2 - jy * v * vb2
        w23 += v_z
    v_viewmat[0, 0], v_viewmat[0, 1], v_viewmat[0, 2], v_viewmat[0, 3] = w00, w01, w02, w03
    v_viewmat[1, 0], v_viewmat[1, 1], v_viewmat[1, 2], v_viewmat[1, 3] = w10, w11, w12, w13
    v_viewmat[2, 0], v_viewmat[2, 1], v_viewmat[2, 2], v_viewmat[2, 3] = w20, w21, w22, w23


@jit
def covariances_adjoint(first, last, quats, scales, v_covs, v_quats, v_scales):
    """v_covs [N, 6] (off-diagonals once) to v_quats [N, 4] and v_scales [N, 3]."""
    for n in range(first, last):
        w, x, y, z = quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3]
        length = _ONE / max(np.sqrt(w * w + x * x + y * y + z * z), _F(1e-12))
        w, x, y, z = w * length, x * length, y * length, z * length
        a, b, c, d, e, f, g, h, i = _rotation(w, x, y, z)
        s, t, u = scales[n, 0], scales[n, 1], scales[n, 2]
        # covariance = axes axes^t, so v_axes = 2 V axes with V symmetric; axes = R diag(scales).
        v0, v1, v2 = _TWO * v_covs[n, 0], v_covs[n, 1], v_covs[n, 2]
        v3, v4, v5 = _TWO * v_covs[n, 3], v_covs[n, 4], _TWO * v_covs[n, 5]
        m00, m10, m20 = v0 * a + v1 * d + v2 * g, v1 * a + v3 * d + v4 * g, v2 * a + v4 * d + v5 * g
        m01, m11, m21 = v0 * b + v1 * e + v2 * h, v1 * b + v3 * e + v4 * h, v2 * b + v4 * e + v5 * h
        m02, m12, m22 = v0 * c + v1 * f + v2 * i, v1 * c + v3 * f + v4 * i, v2 * c + v4 * f + v5 * i
        v_scales[n, 0] = s * (m00 * a + m10 * d + m20 * g)
        v_scales[n, 1] = t * (m01 * b + m11 * e + m21 * h)
        v_scales[n, 2] = u * (m02 * c + m12 * f + m22 * i)
        s, t, u = s * s, t * t, u * u
        m00, m10, m20 = m00 * s, m10 * s, m20 * s
        m01, m11, m21 = m01 * t, m11 * t, m21 * t
        m02, m12, m22 = m02 * u, m12 * u, m22 * u
        vw = _TWO * (x * (m21 - m12) + y * (m02 - m20) + z * (m10 - m01))
        vx = _TWO * (y * (m10 + m01) + z * (m20 + m02) + w * (m21 - m12) - _TWO * x * (m11 + m22))
        vy = _TWO * (x * (m10 + m01) + z * (m21 + m12) + w * (m02 - m20) - _TWO * y * (m00 + m22))
        vz = _TWO * (x * (m20 + m02) + y * (m21 + m12) + w * (m10 - m01) - _TWO * z * (m00 + m11))
        along = vw * w + vx * x + vy * y + vz * z
        v_quats[n, 0], v_quats[n, 1] = (vw - along * w) * length, (vx - along * x) * length
        v_quats[n, 2], v_quats[n, 3] = (vy - along * y) * length, (vz - along * z) * length
