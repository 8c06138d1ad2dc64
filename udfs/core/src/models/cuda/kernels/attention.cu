// Causal attention over packed sequences, tile by tile with the softmax's running largest and sum (FlashAttention, Dao et
// al., 2022); scores exist for one tile at a time, the way back computes them again. A block takes one row, one head and
// one tile of its queries or keys. Steps of row `at` lie at offsets[step] + at; rows are sorted by length.
//
// Counts: 0 rows, 1 heads, 2 width of a head, 3 query tile, 4 key tile, 5 tiles of the longest row, 6 whether only the last
// step of each row asks. Real 0: the scale of scores.

#define KEY(step) ((Size)offsets[step] + at)
#define QUERY(i) (last ? (Size)rows_of[at] : KEY(i))
// Shared rows are one number longer than they are wide: lanes that read a column meet different banks.
#define STRIDE (d + 1)

#define UNIT \
    const unsigned heads = COUNT(1), d = COUNT(2), q_tile = COUNT(3), k_tile = COUNT(4), tiles = COUNT(5), last = COUNT(6); \
    const unsigned tile = BLOCK % tiles, head = BLOCK / tiles % heads, at = BLOCK / tiles / heads; \
    const unsigned width = heads * d, len = lengths[at], first = last ? len - 1 : 0, queries = len - first; \
    const float scale = REAL(0)

#define LOAD(to, count, from, source, stride, factor) \
    for (unsigned e = LANE; e < (count) * d; e += LANES) \
    (to)[e / d * STRIDE + e % d] = (from)[(source) * (stride) + head * d + e % d] * (factor)

// p: 0 q, 1 kv, 2 offsets, 3 lengths, 4 rows, 5 out, 6 logs
KERNEL(attention) {
    const float *q = FLOATS(0), *kv = FLOATS(1);
    const unsigned *offsets = INTS(2), *lengths = INTS(3), *rows_of = INTS(4);
    float *out = FLOATS(5), *logs = FLOATS(6);
    UNIT;
    const unsigned from = tile * q_tile;
    if (at < COUNT(0) && from < queries) {
        const unsigned count = from + q_tile < queries ? q_tile : queries - from, keys = first + from + count;
        float *own_q = shared, *k = own_q + q_tile * STRIDE, *v = k + k_tile * STRIDE, *sums = v + k_tile * STRIDE;
        float *scores = sums + q_tile * STRIDE, *most = scores + q_tile * k_tile, *total = most + q_tile, *shrink = total + q_tile;
        PHASE {
            LOAD(own_q, count, q, QUERY(from + e / d), width, scale);
            for (unsigned e = LANE; e < count * STRIDE; e += LANES) sums[e] = 0.0f;
            for (unsigned i = LANE; i < count; i += LANES) {
                most[i] = -3.0e38f;
                total[i] = 0.0f;
            }
        }
        for (unsigned k_from = 0; k_from < keys; k_from += k_tile) {
            const unsigned k_count = k_from + k_tile < keys ? k_tile : keys - k_from;
            PHASE {
                LOAD(k, k_count, kv, KEY(k_from + e / d), 2 * width, 1.0f);
                LOAD(v, k_count, kv + width, KEY(k_from + e / d), 2 * width, 1.0f);
            }
            PHASE {
                for (unsigned e = LANE; e < count * k_count; e += LANES) {
                    const unsigned i = e / k_count, j = e % k_count;
                    float score = 0.0f;
                    for (unsigned c = 0; c < d; c++) score += own_q[i * STRIDE + c] * k[j * STRIDE + c];
                    scores[i * k_tile + j] = score;
                }
            }
            PHASE {
                for (unsigned i = LANE; i < count; i += LANES) {
                    const unsigned visible = first + from + i + 1;
                    const unsigned seen = visible <= k_from ? 0 : visible - k_from < k_count ? visible - k_from : k_count;
                    float largest = most[i], sum = 0.0f;
                    for (unsigned j = 0; j < seen; j++) largest = scores[i * k_tile + j] > largest ? scores[i * k_tile + j] : largest;
                    for (unsigned j = 0; j < k_count; j++) {
                        const float share = j < seen ? expf(scores[i * k_tile + j] - largest) : 0.0f;
                        scores[i * k_tile + j] = share;
                        sum += share;
                    }
                    shrink[i] = expf(most[i] - largest);
                    total[i] = total[i] * shrink[i] + sum;
                    most[i] = largest;
                }
            }
            PHASE {
                for (unsigned e = LANE; e < count * d; e += LANES) {
                    const unsigned i = e / d, c = e % d;
                    float sum = sums[i * STRIDE + c] * shrink[i];
                    for (unsigned j = 0; j < k_count; j++) sum += scores[i * k_tile + j] * v[j * STRIDE + c];
                    sums[i * STRIDE + c] = sum;
                }
            }
        }
        PHASE {
            for (unsigned e = LANE; e < count * d; e += LANES)
                out[QUERY(from + e / d) * width + head * d + e % d] = sums[e / d * STRIDE + e % d] / total[e / d];
            for (unsigned i = LANE; i < count; i += LANES) logs[QUERY(from + i) * heads + head] = most[i] + logf(total[i]);
        }
    }
}

// deltas[r, head] = sum of out * gradient over the head's columns.
KERNEL(attention_deltas) {
    const float *out = FLOATS(0), *gradient = FLOATS(1);
    float *deltas = FLOATS(2);
    const unsigned rows = COUNT(0), heads = COUNT(1), d = COUNT(2);
    EACH(i, (Size)rows * heads) {
        float sum = 0.0f;
        for (unsigned c = 0; c < d; c++) sum += out[i * d + c] * gradient[i * d + c];
        deltas[i] = sum;
    }
}

// Probabilities and their scores' gradients of one tile, in `share` and `d_score`.
#define SCORES_BACK \
    PHASE { \
        for (unsigned e = LANE; e < count * k_count; e += LANES) { \
            const unsigned i = e / k_count, j = e % k_count; \
            float score = 0.0f, d_share = 0.0f; \
            for (unsigned c = 0; c < d; c++) { \
                score += own_q[i * STRIDE + c] * k[j * STRIDE + c]; \
                d_share += d_out[i * STRIDE + c] * v[j * STRIDE + c]; \
            } \
            const Size asks = QUERY(from + i) * heads + head; \
            const float p = k_from + j <= first + from + i ? expf(score - logs[asks]) : 0.0f; \
            share[i * k_tile + j] = p; \
            d_score[i * k_tile + j] = p * (d_share - deltas[asks]); \
        } \
    }

// p: 0 q, 1 kv, 2 offsets, 3 lengths, 4 rows, 5 logs, 6 deltas, 7 gradient, 8 d_q. Count 7: whether d_q is added to.
KERNEL(attention_back_queries) {
    const float *q = FLOATS(0), *kv = FLOATS(1), *logs = FLOATS(5), *deltas = FLOATS(6), *gradient = FLOATS(7);
    const unsigned *offsets = INTS(2), *lengths = INTS(3), *rows_of = INTS(4);
    float *d_q = FLOATS(8);
    const unsigned held = COUNT(7);
    UNIT;
    const unsigned from = tile * q_tile;
    if (at < COUNT(0) && from < queries) {
        const unsigned count = from + q_tile < queries ? q_tile : queries - from, keys = first + from + count;
        float *own_q = shared, *d_out = own_q + q_tile * STRIDE, *sums = d_out + q_tile * STRIDE, *k = sums + q_tile * STRIDE;
        float *v = k + k_tile * STRIDE, *share = v + k_tile * STRIDE, *d_score = share + q_tile * k_tile;
        PHASE {
            LOAD(own_q, count, q, QUERY(from + e / d), width, scale);
            LOAD(d_out, count, gradient, QUERY(from + e / d), width, 1.0f);
            for (unsigned e = LANE; e < count * STRIDE; e += LANES) sums[e] = 0.0f;
        }
        for (unsigned k_from = 0; k_from < keys; k_from += k_tile) {
            const unsigned k_count = k_from + k_tile < keys ? k_tile : keys - k_from;
            PHASE {
                LOAD(k, k_count, kv, KEY(k_from + e / d), 2 * width, 1.0f);
                LOAD(v, k_count, kv + width, KEY(k_from + e / d), 2 * width, 1.0f);
            }
            SCORES_BACK
            PHASE {
                for (unsigned e = LANE; e < count * d; e += LANES) {
                    const unsigned i = e / d, c = e % d;
                    float sum = sums[i * STRIDE + c];
                    for (unsigned j = 0; j < k_count; j++) sum += d_score[i * k_tile + j] * k[j * STRIDE + c];
                    sums[i * STRIDE + c] = sum;
                }
            }
        }
        PHASE {
            for (unsigned e = LANE; e < count * d; e += LANES) {
                float *to = d_q + QUERY(from + e / d) * width + head * d + e % d;
                *to = (held ? *to : 0.0f) + sums[e / d * STRIDE + e % d] * scale;
            }
        }
    }
}

// p: as attention_back_queries, 8 d_kv. Count 5: tiles of keys of the longest row; count 7: whether d_kv is added to.
KERNEL(attention_back_keys) {
    const float *q = FLOATS(0), *kv = FLOATS(1), *logs = FLOATS(5), *deltas = FLOATS(6), *gradient = FLOATS(7);
    const unsigned *offsets = INTS(2), *lengths = INTS(3), *rows_of = INTS(4);
    float *d_kv = FLOATS(8);
    const unsigned held = COUNT(7);
    UNIT;
    const unsigned k_from = tile * k_tile;
    if (at < COUNT(0) && k_from < len) {
        const unsigned k_count = k_from + k_tile < len ? k_tile : len - k_from;
        float *k = shared, *v = k + k_tile * STRIDE, *d_k = v + k_tile * STRIDE, *d_v = d_k + k_tile * STRIDE;
        float *own_q = d_v + k_tile * STRIDE, *d_out = own_q + q_tile * STRIDE, *share = d_out + q_tile * STRIDE;
        float *d_score = share + q_tile * k_tile;
        // The first query that sees any of these keys.
        const unsigned begin = k_from > first ? k_from - first : 0;
        PHASE {
            LOAD(k, k_count, kv, KEY(k_from + e / d), 2 * width, 1.0f);
            LOAD(v, k_count, kv + width, KEY(k_from + e / d), 2 * width, 1.0f);
            for (unsigned e = LANE; e < 2 * k_tile * STRIDE; e += LANES) d_k[e] = 0.0f;
        }
        for (unsigned from = begin; from < queries; from += q_tile) {
            const unsigned count = from + q_tile < queries ? q_tile : queries - from;
            PHASE {
                LOAD(own_q, count, q, QUERY(from + e / d), width, scale);
                LOAD(d_out, count, gradient, QUERY(from + e / d), width, 1.0f);
            }
            SCORES_BACK
            PHASE {
                for (unsigned e = LANE; e < k_count * d; e += LANES) {
                    const unsigned j = e / d, c = e % d;
                    float to_k = d_k[j * STRIDE + c], to_v = d_v[j * STRIDE + c];
                    for (unsigned i = 0; i < count; i++) {
                        to_k += d_score[i * k_tile + j] * own_q[i * STRIDE + c];
                        to_v += share[i * k_tile + j] * d_out[i * STRIDE + c];
                    }
                    d_k[j * STRIDE + c] = to_k;
                    d_v[j * STRIDE + c] = to_v;
                }
            }
        }
        PHASE {
            for (unsigned e = LANE; e < k_count * d; e += LANES) {
                float *to = d_kv + KEY(k_from + e / d) * 2 * width + head * d + e % d;
                const unsigned s = e / d * STRIDE + e % d;
                to[0] = (held ? to[0] : 0.0f) + d_k[s];
                to[width] = (held ? to[width] : 0.0f) + d_v[s];
            }
        }
    }
}
