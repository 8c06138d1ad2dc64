// Losses of rows with their gradients: `scales` holds what a row counts for, its weight over all weights and members.

// Softmax cross-entropy; a block takes a row of logits [all, classes], where row r of member m is at r * members + m.
KERNEL(cross_entropy) {
    const float *logits = FLOATS(0), *scales = FLOATS(2);
    const unsigned *targets = INTS(1);
    float *own = FLOATS(3), *losses = FLOATS(4);
    const unsigned all = COUNT(0), classes = COUNT(1), members = COUNT(2);
    float *most = shared, *sums = shared + LANES;
    for (Size at = BLOCK; at < all; at += BLOCKS) {
        const float *x = logits + at * classes;
        PHASE {
            float largest = x[0];
            for (unsigned c = LANE; c < classes; c += LANES) largest = x[c] > largest ? x[c] : largest;
            most[LANE] = largest;
        }
        REDUCE_MAX(most);
        PHASE {
            float sum = 0.0f;
            for (unsigned c = LANE; c < classes; c += LANES) sum += expf(x[c] - most[0]);
            sums[LANE] = sum;
        }
        REDUCE(sums);
        PHASE {
            const unsigned target = targets[at / members];
            const float scale = scales[at / members], share = scale / sums[0];
            for (unsigned c = LANE; c < classes; c += LANES)
                own[at * classes + c] = expf(x[c] - most[0]) * share - (c == target ? scale : 0.0f);
            if (LANE == 0) losses[at] = scale * (logf(sums[0]) + most[0] - x[target]);
        }
    }
}

// The slope of the focal loss over the logarithm of a probability, but for the label's share.
INLINE double focal_slope(double log_p, double gamma) {
    const double rest = -expm1(log_p);
    if (gamma == 0.0) return -1.0;
    const double bend = rest < 1e-12 ? -pow(rest, gamma) : pow(rest, gamma - 1.0) * exp(log_p) * log_p;
    return gamma * bend - pow(rest, gamma);
}

// The focal loss with label smoothing; in f64, as on the host. Real 0: gamma, 1: smoothing.
KERNEL(focal) {
    const float *logits = FLOATS(0), *scales = FLOATS(2);
    const unsigned *targets = INTS(1);
    float *own = FLOATS(3), *losses = FLOATS(4);
    const unsigned all = COUNT(0), classes = COUNT(1), members = COUNT(2);
    double *most = (double *)shared, *sums = most + LANES, *totals = sums + LANES, *parts = totals + LANES;
    for (Size at = BLOCK; at < all; at += BLOCKS) {
        const float *x = logits + at * classes;
        const unsigned target = targets[at / members];
        const double gamma = REAL(0), spread = (double)REAL(1) / classes, hit = 1.0 - REAL(1) + spread;
        PHASE {
            double largest = x[0];
            for (unsigned c = LANE; c < classes; c += LANES) largest = x[c] > largest ? x[c] : largest;
            most[LANE] = largest;
        }
        REDUCE_MAX(most);
        PHASE {
            double sum = 0.0;
            for (unsigned c = LANE; c < classes; c += LANES) sum += exp(x[c] - most[0]);
            sums[LANE] = sum;
        }
        REDUCE(sums);
        PHASE {
            const double norm = log(sums[0]) + most[0];
            double total = 0.0, part = 0.0;
            for (unsigned c = LANE; c < classes; c += LANES) {
                const double label = c == target ? hit : spread, log_p = x[c] - norm < 0.0 ? x[c] - norm : 0.0;
                if (label > 0.0) {
                    part -= label * pow(-expm1(log_p), gamma) * log_p;
                    total += label * focal_slope(log_p, gamma);
                }
            }
            totals[LANE] = total;
            parts[LANE] = part;
        }
        REDUCE(totals);
        REDUCE(parts);
        PHASE {
            const double norm = log(sums[0]) + most[0], scale = scales[at / members];
            for (unsigned c = LANE; c < classes; c += LANES) {
                const double label = c == target ? hit : spread, log_p = x[c] - norm < 0.0 ? x[c] - norm : 0.0;
                const double slope = label > 0.0 ? label * focal_slope(log_p, gamma) : 0.0;
                own[at * classes + c] = (float)(scale * (slope - exp(log_p) * totals[0]));
            }
            if (LANE == 0) losses[at] = (float)(scale * parts[0]);
        }
    }
}

// Squared differences of predictions [all] from the targets of their rows.
KERNEL(squared_error) {
    const float *x = FLOATS(0), *targets = FLOATS(1), *scales = FLOATS(2);
    float *own = FLOATS(3), *losses = FLOATS(4);
    const unsigned members = COUNT(1);
    EACH(at, COUNT(0)) {
        const float difference = x[at] - targets[at / members], scale = scales[at / members];
        own[at] = 2.0f * difference * scale;
        losses[at] = difference * difference * scale;
    }
}

// out[0] = the sum of x; one block.
KERNEL(sum_all) {
    const float *x = FLOATS(0);
    float *out = FLOATS(1);
    const unsigned count = COUNT(0);
    double *sums = (double *)shared;
    PHASE {
        double sum = 0.0;
        for (Size i = LANE; i < count; i += LANES) sum += x[i];
        sums[LANE] = sum;
    }
    REDUCE(sums);
    PHASE if (LANE == 0) out[0] = (float)sums[0];
}
