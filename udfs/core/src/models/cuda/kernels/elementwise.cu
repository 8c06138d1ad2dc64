// Element by element, and rows from here to there.

// out = value
KERNEL(fill) {
    float *out = FLOATS(0);
    EACH(i, COUNT(0)) { out[i] = REAL(0); }
}

// out = a + b
KERNEL(add) {
    const float *a = FLOATS(0), *b = FLOATS(1);
    float *out = FLOATS(2);
    EACH(i, COUNT(0)) { out[i] = a[i] + b[i]; }
}

// out += factor * a
KERNEL(add_scaled) {
    const float *a = FLOATS(0);
    float *out = FLOATS(1);
    EACH(i, COUNT(0)) { out[i] += REAL(0) * a[i]; }
}

// out (+)= a * factor[0]
KERNEL(scale_by) {
    const float *a = FLOATS(0), *factor = FLOATS(1);
    float *out = FLOATS(2);
    const unsigned held = COUNT(1);
    EACH(i, COUNT(0)) { out[i] = (held ? out[i] : 0.0f) + a[i] * factor[0]; }
}

// x [rows, width] becomes act(x + bias); bias may be missing.
KERNEL(bias_activation) {
    float *x = FLOATS(0);
    const float *bias = FLOATS(1);
    const unsigned width = COUNT(1), kind = COUNT(2);
    EACH(i, COUNT(0)) { x[i] = activate(kind, x[i] + (bias ? bias[i % width] : 0.0f)); }
}

// out = the gradient before an activation whose result is y
KERNEL(activation_back) {
    const float *gradient = FLOATS(0), *y = FLOATS(1);
    float *out = FLOATS(2);
    EACH(i, COUNT(0)) { out[i] = activate_back(COUNT(1), gradient[i], y[i]); }
}

// Columns of a matrix into columns of another: to[r, to_offset + j] (+)= from[r, from_offset + j].
KERNEL(move_columns) {
    const float *from = FLOATS(0);
    float *to = FLOATS(1);
    const unsigned rows = COUNT(0), width = COUNT(1), from_width = COUNT(2), from_offset = COUNT(3);
    const unsigned to_width = COUNT(4), to_offset = COUNT(5), held = COUNT(6);
    EACH(i, (Size)rows * width) {
        const Size row = i / width, j = i % width;
        float *out = to + row * to_width + to_offset + j;
        *out = (held ? *out : 0.0f) + from[row * from_width + from_offset + j];
    }
}

// out[r, offset + j] (+)= table[ids[r, field], j]; an id of all ones reads as zeros.
KERNEL(gather_rows) {
    const float *table = FLOATS(0);
    const unsigned *ids = INTS(1);
    float *out = FLOATS(2);
    const unsigned rows = COUNT(0), width = COUNT(1), fields = COUNT(2), field = COUNT(3);
    const unsigned out_width = COUNT(4), offset = COUNT(5), held = COUNT(6);
    EACH(i, (Size)rows * width) {
        const Size row = i / width, j = i % width;
        const unsigned id = ids[row * fields + field];
        float *to = out + row * out_width + offset + j;
        *to = (held ? *to : 0.0f) + (id == 0xFFFFFFFFu ? 0.0f : table[(Size)id * width + j]);
    }
}

// x[ids[r], j] += rows[r, j]; no id occurs twice, one of all ones goes nowhere.
KERNEL(scatter_rows) {
    const float *from = FLOATS(0);
    const unsigned *ids = INTS(1);
    float *x = FLOATS(2);
    const unsigned rows = COUNT(0), width = COUNT(1);
    EACH(i, (Size)rows * width) {
        const unsigned id = ids[i / width];
        if (id != 0xFFFFFFFFu) x[(Size)id * width + i % width] += from[i];
    }
}

// Rows of a gradient whose ids are alike lie side by side in `places`; a piece is some of them. Sums of pieces:
// out[p, j] = sum of gradient[places[k], offset + j] over starts[p] <= k < starts[p + 1].
KERNEL(sum_pieces) {
    const float *gradient = FLOATS(0);
    const unsigned *places = INTS(1), *starts = INTS(2);
    float *out = FLOATS(3);
    const unsigned pieces = COUNT(0), width = COUNT(1), gradient_width = COUNT(2), offset = COUNT(3);
    EACH(i, (Size)pieces * width) {
        const Size piece = i / width, j = i % width;
        float sum = 0.0f;
        for (unsigned k = starts[piece]; k < starts[piece + 1]; k++) sum += gradient[(Size)places[k] * gradient_width + offset + j];
        out[i] = sum;
    }
}

// table[ids[s], j] += sum of pieces[p, j] over starts[s] <= p < starts[s + 1].
KERNEL(add_segments) {
    const float *pieces = FLOATS(0);
    const unsigned *ids = INTS(1), *starts = INTS(2);
    float *table = FLOATS(3);
    const unsigned segments = COUNT(0), width = COUNT(1);
    EACH(i, (Size)segments * width) {
        const Size segment = i / width, j = i % width;
        float sum = 0.0f;
        for (unsigned p = starts[segment]; p < starts[segment + 1]; p++) sum += pieces[(Size)p * width + j];
        table[(Size)ids[segment] * width + j] += sum;
    }
}

// Philox4x32-10 (Salmon et al., 2011): word `word` of the block at `counter`.
INLINE unsigned philox_word(unsigned counter, unsigned stream, unsigned step, unsigned key0, unsigned key1, unsigned word) {
    unsigned c0 = counter, c1 = 0, c2 = stream, c3 = step;
    for (int round = 0; round < 10; round++) {
        const Size first = (Size)c0 * 0xD2511F53u, second = (Size)c2 * 0xCD9E8D57u;
        c0 = (unsigned)(second >> 32) ^ c1 ^ key0;
        c1 = (unsigned)second;
        c2 = (unsigned)(first >> 32) ^ c3 ^ key1;
        c3 = (unsigned)first;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return word == 0 ? c0 : word == 1 ? c1 : word == 2 ? c2 : c3;
}

INLINE unsigned fork(unsigned stream, unsigned index) { return stream * 0x9E3779B1u + index * 0x85EBCA77u + 1u; }

// What dropout multiplies element (row, j) with: the number that the host gives it. The host cuts a batch into shards with
// streams of their own, so each row knows its shard and its place there; `members` neighbouring rows share both.
INLINE float dropout_factor(const Args *args, Size row, unsigned j, unsigned width, const unsigned *shards, const unsigned *places,
                            unsigned first) {
    const unsigned members = args->n[first], position = args->n[first + 1], stream = args->n[first + 2], step = args->n[first + 3];
    const unsigned key0 = args->n[first + 4], key1 = args->n[first + 5], threshold = args->n[first + 6];
    const Size own = row / members;
    const Size element = ((Size)places[own] * members + row % members) * width + j;
    const unsigned group = (unsigned)(element / 128), in_group = (unsigned)(element % 128);
    const unsigned half = in_group / 16, lane = in_group % 16;
    const unsigned own_stream = fork(fork(stream, 65536u | shards[own]), position);
    const unsigned word = philox_word(group * 16u + lane, own_stream, step, key0, key1, half >> 1);
    return ((word >> ((half & 1u) * 16u)) & 0xFFFFu) >= threshold ? args->f[0] : 0.0f;
}

#ifdef __CUDACC__
#define ARGS (&args)
#else
#define ARGS args_
#endif

// out (+)= x without the elements that dropout silences, the others scaled up.
KERNEL(dropout) {
    const float *x = FLOATS(0);
    float *out = FLOATS(1);
    const unsigned *shards = INTS(2), *places = INTS(3);
    const unsigned rows = COUNT(0), width = COUNT(1), held = COUNT(2);
    EACH(i, (Size)rows * width) {
        const float factor = dropout_factor(ARGS, i / width, (unsigned)(i % width), width, shards, places, 3);
        out[i] = (held ? out[i] : 0.0f) + x[i] * factor;
    }
}
