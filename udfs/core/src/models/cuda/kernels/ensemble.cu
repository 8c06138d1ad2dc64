// Ensembles that share their matrices (TabM), and piecewise-linear embeddings of numbers. Row r of member m is at
// r * members + m.

// out[(r, m), i] = x[r or (r, m), i] * scale[m, i]
KERNEL(scale_members) {
    const float *x = FLOATS(0), *scale = FLOATS(1);
    float *out = FLOATS(2);
    const unsigned all = COUNT(0), width = COUNT(1), members = COUNT(2), common = COUNT(3);
    EACH(e, (Size)all * width) {
        const Size at = e / width, i = e % width, row = common ? at / members : at;
        out[e] = x[row * width + i] * scale[at % members * width + i];
    }
}

// The way back to x: d_x (+)= d_scaled * scale, added up over the members when they read the same row.
KERNEL(scale_members_back) {
    const float *d_scaled = FLOATS(0), *scale = FLOATS(1);
    float *d_x = FLOATS(2);
    const unsigned x_rows = COUNT(0), width = COUNT(1), members = COUNT(2), common = COUNT(3), held = COUNT(4);
    EACH(e, (Size)x_rows * width) {
        const Size row = e / width, i = e % width;
        float sum = held ? d_x[e] : 0.0f;
        if (common) {
            for (Size m = 0; m < members; m++) sum += d_scaled[(row * members + m) * width + i] * scale[m * width + i];
        } else {
            sum += d_scaled[e] * scale[row % members * width + i];
        }
        d_x[e] = sum;
    }
}

// y = dropout(act(z * scale[m] + bias[m])); counts from 5 on are those of dropout, when count 4 says that there is one.
KERNEL(finish_members) {
    const float *z = FLOATS(0), *scale = FLOATS(1), *bias = FLOATS(2);
    float *y = FLOATS(3);
    const unsigned *shards = INTS(4), *places = INTS(5);
    const unsigned all = COUNT(0), width = COUNT(1), members = COUNT(2), kind = COUNT(3), masked = COUNT(4);
    EACH(e, (Size)all * width) {
        const Size at = e / width, own = at % members * width + e % width;
        const float value = activate(kind, z[e] * scale[own] + bias[own]);
        y[e] = masked ? value * dropout_factor(ARGS, at, (unsigned)(e % width), width, shards, places, 5) : value;
    }
}

// Back to before the scaling (`before`) and to z. Behind a relu a silenced unit is one whose result is 0.
KERNEL(finish_members_back) {
    const float *gradient = FLOATS(0), *y = FLOATS(1), *scale = FLOATS(2);
    float *before = FLOATS(3), *d_z = FLOATS(4);
    const unsigned all = COUNT(0), width = COUNT(1), members = COUNT(2), kind = COUNT(3);
    EACH(e, (Size)all * width) {
        const float g = activate_back(kind, gradient[e] * REAL(0), y[e]);
        before[e] = g;
        d_z[e] = g * scale[e / width % members * width + e % width];
    }
}

// Where each number lies: its bin (all ones for a feature without one) and how far into it. Edges rise strictly, then the
// last one is repeated.
KERNEL(find_bins) {
    const float *x = FLOATS(0), *edges = FLOATS(1);
    unsigned *bin_of = INTS(2);
    float *fill_of = FLOATS(3);
    const unsigned rows = COUNT(0), features = COUNT(1), bins = COUNT(2);
    EACH(i, (Size)rows * features) {
        const float *own = edges + i % features * (bins + 1);
        unsigned valid = 0, bin = 0;
        while (valid < bins && own[valid] < own[valid + 1]) valid++;
        while (bin + 1 < valid && own[bin + 1] <= x[i]) bin++;
        bin_of[i] = valid ? bin : 0xFFFFFFFFu;
        fill_of[i] = valid ? (x[i] - own[bin]) / (own[bin + 1] - own[bin]) : 0.0f;
    }
}

// out[r, f, w] = x * linear + bias + the weights of full bins + fill * that of the bin in use
KERNEL(piecewise) {
    const float *x = FLOATS(0), *weight = FLOATS(1), *linear = FLOATS(2), *bias = FLOATS(3);
    const unsigned *bin_of = INTS(4);
    const float *fill_of = FLOATS(5);
    float *out = FLOATS(6);
    const unsigned rows = COUNT(0), features = COUNT(1), bins = COUNT(2), width = COUNT(3);
    EACH(e, (Size)rows * features * width) {
        const Size i = e / width, w = e % width, own = i % features * width + w;
        float value = x[i] * linear[own] + bias[own];
        if (bin_of[i] != 0xFFFFFFFFu) {
            const float *of = weight + i % features * bins * width + w;
            for (unsigned t = 0; t < bin_of[i]; t++) value += of[(Size)t * width];
            value += fill_of[i] * of[(Size)bin_of[i] * width];
        }
        out[e] = value;
    }
}

// d_weight[f, t, w] (+)= sum over rows of gradient * how full bin t is.
KERNEL(piecewise_back) {
    const float *gradient = FLOATS(0);
    const unsigned *bin_of = INTS(1);
    const float *fill_of = FLOATS(2);
    float *d_weight = FLOATS(3);
    const unsigned rows = COUNT(0), features = COUNT(1), bins = COUNT(2), width = COUNT(3), held = COUNT(4);
    EACH(e, (Size)features * bins * width) {
        const Size w = e % width, f = e / width / bins;
        const unsigned t = (unsigned)(e / width % bins);
        float sum = held ? d_weight[e] : 0.0f;
        for (Size r = 0; r < rows; r++) {
            const unsigned bin = bin_of[r * features + f];
            if (bin == 0xFFFFFFFFu || bin < t) continue;
            const float g = gradient[(r * features + f) * width + w];
            sum += bin == t ? g * fill_of[r * features + f] : g;
        }
        d_weight[e] = sum;
    }
}
