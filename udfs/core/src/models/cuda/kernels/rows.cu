// Sums over rows and over columns.

// Sums of columns, some rows at a time: out[c, j] = sum of a[r, j] * b over the rows r of chunk c. b is missing, or
// b[r, (j / b_divides) % b_width]: as wide as a, repeated, or spread over neighbouring columns.
KERNEL(sum_columns) {
    const float *a = FLOATS(0), *b = FLOATS(1);
    float *out = FLOATS(2);
    const unsigned rows = COUNT(0), width = COUNT(1), chunk = COUNT(2), chunks = COUNT(3), b_width = COUNT(4), b_divides = COUNT(5);
    EACH(i, (Size)chunks * width) {
        const unsigned j = (unsigned)(i % width);
        const Size from = i / width * chunk, to = from + chunk < rows ? from + chunk : rows;
        float sum = 0.0f;
        for (Size r = from; r < to; r++) sum += b ? a[r * width + j] * b[r * b_width + j / b_divides % b_width] : a[r * width + j];
        out[i] = sum;
    }
}

// out[j] (+)= sum over c of parts[c, j].
KERNEL(sum_parts) {
    const float *parts = FLOATS(0);
    float *out = FLOATS(1);
    const unsigned width = COUNT(0), chunks = COUNT(1), held = COUNT(2);
    EACH(j, width) {
        float sum = held ? out[j] : 0.0f;
        for (Size c = 0; c < chunks; c++) sum += parts[c * width + j];
        out[j] = sum;
    }
}

// Layer normalisation (Ba, Kiros & Hinton, 2016), one row of a block: y = normal * weight + bias with
// normal = (x - mean) / sqrt(variance + 1e-5).
KERNEL(layer_norm) {
    const float *x = FLOATS(0), *weight = FLOATS(1), *bias = FLOATS(2);
    float *y = FLOATS(3), *normal = FLOATS(4), *scales = FLOATS(5);
    const unsigned rows = COUNT(0), width = COUNT(1);
    float *sums = shared, *squares = shared + LANES;
    for (Size row = BLOCK; row < rows; row += BLOCKS) {
        const float *own = x + row * width;
        PHASE {
            float sum = 0.0f;
            for (unsigned j = LANE; j < width; j += LANES) sum += own[j];
            sums[LANE] = sum;
        }
        REDUCE(sums);
        PHASE {
            const float mean = sums[0] / width;
            float sum = 0.0f;
            for (unsigned j = LANE; j < width; j += LANES) sum += (own[j] - mean) * (own[j] - mean);
            squares[LANE] = sum;
        }
        REDUCE(squares);
        PHASE {
            const float mean = sums[0] / width, scale = 1.0f / sqrtf(squares[0] / width + 1e-5f);
            for (unsigned j = LANE; j < width; j += LANES) {
                const float value = (own[j] - mean) * scale;
                normal[row * width + j] = value;
                y[row * width + j] = value * weight[j] + bias[j];
            }
            if (LANE == 0) scales[row] = scale;
        }
    }
}

// The way back to x: d_x (+)= (g * weight - mean(g * weight) - normal * mean(g * weight * normal)) * scale.
KERNEL(layer_norm_back) {
    const float *gradient = FLOATS(0), *normal = FLOATS(1), *scales = FLOATS(2), *weight = FLOATS(3);
    float *d_x = FLOATS(4);
    const unsigned rows = COUNT(0), width = COUNT(1), held = COUNT(2);
    float *means = shared, *slopes = shared + LANES;
    for (Size row = BLOCK; row < rows; row += BLOCKS) {
        const float *g = gradient + row * width, *n = normal + row * width;
        PHASE {
            float mean = 0.0f, slope = 0.0f;
            for (unsigned j = LANE; j < width; j += LANES) {
                mean += g[j] * weight[j];
                slope += g[j] * weight[j] * n[j];
            }
            means[LANE] = mean;
            slopes[LANE] = slope;
        }
        REDUCE(means);
        REDUCE(slopes);
        PHASE {
            const float mean = means[0] / width, slope = slopes[0] / width;
            for (unsigned j = LANE; j < width; j += LANES) {
                const Size i = row * width + j;
                d_x[i] = (held ? d_x[i] : 0.0f) + (g[j] * weight[j] - mean - n[j] * slope) * scales[row];
            }
        }
    }
}

// The mean of each group of neighbouring rows: [rows * members, width] -> [rows, width].
KERNEL(mean_groups) {
    const float *x = FLOATS(0);
    float *out = FLOATS(1);
    const unsigned rows = COUNT(0), width = COUNT(1), members = COUNT(2);
    EACH(i, (Size)rows * width) {
        const Size row = i / width, j = i % width;
        float sum = 0.0f;
        for (unsigned m = 0; m < members; m++) sum += x[(row * members + m) * width + j];
        out[i] = sum / members;
    }
}

// And back: every member gets its share.
KERNEL(mean_groups_back) {
    const float *gradient = FLOATS(0);
    float *d_x = FLOATS(1);
    const unsigned rows = COUNT(0), width = COUNT(1), members = COUNT(2), held = COUNT(3);
    EACH(i, (Size)rows * members * width) {
        const Size row = i / width / members;
        d_x[i] = (held ? d_x[i] : 0.0f) + gradient[row * width + i % width] / members;
    }
}
