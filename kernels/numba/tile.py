"""The loops that every kernel shares, over a tile of states widened to float64 and a block of queries.

Energies relative to the reference state r come from products about the anchor a,
    H~_n - H~_a = |t_n|^2/2 + t_n.g,   g = a - h,
four queries by four states at a time; or, where their proved error matters, from differences,
    H~_n - H~_r = sum_d s (s/2 + k),   s = y_n - y_r,  k = y_r - h.
Float64 states lose digits in t_n = y_n - a, so differences are those of the states themselves.
"""

import numpy as np

from fastthermo.kernels.numba.compile import inner
from fastthermo.kernels.numba.config import NEGLIGIBLE

PRODUCTS, RESCORED, DIFFERENCES = 0, 1, 2  # modes: products; those that matter by differences; all by differences


@inner
def fill(x, start, stop, value):  # type: ignore[no-untyped-def]
    for i in range(start, stop):
        x[i] = value


@inner
def copy(source, target):  # type: ignore[no-untyped-def]
    for i in range(source.size):
        target[i] = source[i]


@inner
def dot(x, y):  # type: ignore[no-untyped-def]
    total = 0.0
    for d in range(x.size):
        total += x[d] * y[d]
    return total


@inner
def any_products(mode, low, high):  # type: ignore[no-untyped-def]
    found = False
    for b in range(low, high):
        found |= mode[b] != DIFFERENCES
    return found


@inner
def widen(states, anchor, low, high, rows, centred):  # type: ignore[no-untyped-def]
    """y_n and t_n of states [low, high), t padded with zeros to a multiple of four; returns the padded count."""
    for n in range(low, high):
        for d in range(anchor.size):
            rows[n - low, d] = np.float64(states[n, d])
            centred[n - low, d] = rows[n - low, d] - anchor[d]
    padded = (high - low + 3) // 4 * 4
    for n in range(high - low, padded):
        fill(centred[n], 0, anchor.size, 0.0)
    return padded


@inner
def set_pull(anchor, field, low, high, pull):  # type: ignore[no-untyped-def]
    """g = a - h of queries [low, high); the padding of `pull` is left as it is."""
    for b in range(low, high):
        for d in range(anchor.size):
            pull[b - low, d] = anchor[d] - field[b, d]


@inner
def set_references(states, anchor, half_squares, field, dominant, low, high, pull, reference, away, at_reference):  # type: ignore[no-untyped-def]
    """y_r and k of queries [low, high), and H~_r - H~_a."""
    for q in range(high - low):
        r = dominant[low + q]
        total = half_squares[r]
        for d in range(anchor.size):
            reference[q, d] = np.float64(states[r, d])
            away[q, d] = reference[q, d] - field[low + q, d]
            total += (reference[q, d] - anchor[d]) * pull[q, d]
        at_reference[q] = total


@inner
def products(centred, half_squares, pull, energy):  # type: ignore[no-untyped-def]
    """H~_n - H~_a into energy; queries and states in fours, so that every pair is summed in the same order."""
    for q in range(0, pull.shape[0], 4):
        g0, g1, g2, g3 = pull[q], pull[q + 1], pull[q + 2], pull[q + 3]
        for n in range(0, half_squares.size, 4):
            t0, t1, t2, t3 = centred[n], centred[n + 1], centred[n + 2], centred[n + 3]
            a00 = a01 = a02 = a03 = a10 = a11 = a12 = a13 = 0.0
            a20 = a21 = a22 = a23 = a30 = a31 = a32 = a33 = 0.0
            for d in range(pull.shape[1]):
                x0, x1, x2, x3 = g0[d], g1[d], g2[d], g3[d]
                y0, y1, y2, y3 = t0[d], t1[d], t2[d], t3[d]
                a00 += x0 * y0
                a01 += x0 * y1
                a02 += x0 * y2
                a03 += x0 * y3
                a10 += x1 * y0
                a11 += x1 * y1
                a12 += x1 * y2
                a13 += x1 * y3
                a20 += x2 * y0
                a21 += x2 * y1
                a22 += x2 * y2
                a23 += x2 * y3
                a30 += x3 * y0
                a31 += x3 * y1
                a32 += x3 * y2
                a33 += x3 * y3
            h0, h1, h2, h3 = half_squares[n], half_squares[n + 1], half_squares[n + 2], half_squares[n + 3]
            energy[q, n], energy[q, n + 1], energy[q, n + 2], energy[q, n + 3] = h0 + a00, h1 + a01, h2 + a02, h3 + a03
            e = energy[q + 1]
            e[n], e[n + 1], e[n + 2], e[n + 3] = h0 + a10, h1 + a11, h2 + a12, h3 + a13
            e = energy[q + 2]
            e[n], e[n + 1], e[n + 2], e[n + 3] = h0 + a20, h1 + a21, h2 + a22, h3 + a23
            e = energy[q + 3]
            e[n], e[n + 1], e[n + 2], e[n + 3] = h0 + a30, h1 + a31, h2 + a32, h3 + a33


@inner
def difference(row, reference, away):  # type: ignore[no-untyped-def]
    """H~_n - H~_r by differences."""
    total = 0.0
    for d in range(row.size):
        s = row[d] - reference[d]
        total += s * (0.5 * s + away[d])
    return total


@inner
def tile_logits(  # type: ignore[no-untyped-def]
    rows, log_weights, prior, how, reference, away, at_reference, product, energy, logit
):
    """Energies and log-weights of a tile relative to the reference; returns the place of the largest weight.

    prior : log phi_r; how : beta, mode, and the logit above which energies are rescored; at_reference : product at r.
    """
    beta, mode, cutoff = how
    best = 0
    for i in range(log_weights.size):
        if mode == DIFFERENCES:
            e = difference(rows[i], reference, away)
        else:
            e = product[i] - at_reference
            if mode == RESCORED:
                if log_weights[i] - prior - beta * e > cutoff:
                    e = difference(rows[i], reference, away)
                elif cutoff < NEGLIGIBLE:
                    e = np.inf  # its product says nothing but that its weight is negligible
        energy[i] = e
        logit[i] = log_weights[i] - prior - beta * e
        if logit[i] > logit[best]:
            best = i
    return best


@inner
def tile_weights(  # type: ignore[no-untyped-def]
    rows, log_weights, prior, own, how, norm, reference, away, at_reference, product, energy, weight
):
    """H~_n - H~_r into `energy` and w_n into `weight`, 0 where negligible; `own` is the place of r, if it is here."""
    tile_logits(rows, log_weights, prior, how, reference, away, at_reference, product, energy, weight)
    for i in range(log_weights.size):
        if i == own:
            energy[i], weight[i] = 0.0, 1 / norm
        elif weight[i] > NEGLIGIBLE:
            weight[i] = np.exp(weight[i]) / norm
        else:
            energy[i], weight[i] = 0.0, 0.0


@inner
def add_weighted(rows, count, weight, kept, origin, out):  # type: ignore[no-untyped-def]
    """out += sum of weight_n (y_n - origin) over the tile; `kept` is scratch for the states that have weight."""
    left = 0
    for i in range(count):
        if weight[i] != 0:
            kept[left] = i
            left += 1
    k = 0
    while k + 4 <= left:
        i0, i1, i2, i3 = kept[k], kept[k + 1], kept[k + 2], kept[k + 3]
        y0, y1, y2, y3 = rows[i0], rows[i1], rows[i2], rows[i3]
        w0, w1, w2, w3 = weight[i0], weight[i1], weight[i2], weight[i3]
        for d in range(origin.size):
            o = origin[d]
            s0, s1, s2, s3 = (y0[d] - o), (y1[d] - o), (y2[d] - o), (y3[d] - o)
            out[d] += w0 * s0 + w1 * s1 + w2 * s2 + w3 * s3
        k += 4
    while k < left:
        i0 = kept[k]
        for d in range(origin.size):
            out[d] += weight[i0] * (rows[i0, d] - origin[d])
        k += 1


@inner
def add_products(centred, count, weight, out):  # type: ignore[no-untyped-def]
    """out_q += sum of weight_qn t_n for four queries, by four states; quads without weight are skipped."""
    o0, o1, o2, o3 = out[0], out[1], out[2], out[3]
    for n in range(0, count, 4):
        largest = 0.0
        for q in range(4):
            for k in range(4):
                largest = max(largest, abs(weight[q, n + k]))
        if largest > 0:
            t0, t1, t2, t3 = centred[n], centred[n + 1], centred[n + 2], centred[n + 3]
            w00, w01, w02, w03 = weight[0, n], weight[0, n + 1], weight[0, n + 2], weight[0, n + 3]
            w10, w11, w12, w13 = weight[1, n], weight[1, n + 1], weight[1, n + 2], weight[1, n + 3]
            w20, w21, w22, w23 = weight[2, n], weight[2, n + 1], weight[2, n + 2], weight[2, n + 3]
            w30, w31, w32, w33 = weight[3, n], weight[3, n + 1], weight[3, n + 2], weight[3, n + 3]
            for d in range(o0.size):
                y0, y1, y2, y3 = t0[d], t1[d], t2[d], t3[d]
                o0[d] += w00 * y0 + w01 * y1 + w02 * y2 + w03 * y3
                o1[d] += w10 * y0 + w11 * y1 + w12 * y2 + w13 * y3
                o2[d] += w20 * y0 + w21 * y1 + w22 * y2 + w23 * y3
                o3[d] += w30 * y0 + w31 * y1 + w32 * y2 + w33 * y3
