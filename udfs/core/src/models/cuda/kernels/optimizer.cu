// One step of the optimizer over all parameters, which lie side by side. What the step does is decided on the device, so
// that the host does not wait: control holds 0 the clipping factor, 1 the step size, 2 the root's factor, 3 whether loss and
// gradient were finite, 4 the gradient's norm, 5 the loss.

// out[b] = sum of squares of what block b sees.
KERNEL(sum_squares) {
    const float *x = FLOATS(0);
    double *out = DOUBLES(1);
    const unsigned count = COUNT(0);
    double *sums = (double *)shared;
    PHASE {
        double sum = 0.0;
        for (Size i = (Size)BLOCK * LANES + LANE; i < count; i += (Size)BLOCKS * LANES) sum += (double)x[i] * x[i];
        sums[LANE] = sum;
    }
    REDUCE(sums);
    PHASE if (LANE == 0) out[BLOCK] = sums[0];
}

// One block: norm and clipping, and the bias corrections of Adam, unless something is not finite. Real 0: largest norm, or
// negative; 1: learning rate.
KERNEL(begin_step) {
    const double *squares = DOUBLES(0);
    const float *loss = FLOATS(1);
    float *control = FLOATS(2);
    unsigned *steps = INTS(3);
    const unsigned parts = COUNT(0);
    double *sums = (double *)shared;
    PHASE {
        double sum = 0.0;
        for (unsigned i = LANE; i < parts; i += LANES) sum += squares[i];
        sums[LANE] = sum;
    }
    REDUCE(sums);
    PHASE if (LANE == 0) {
        const double norm = sqrt(sums[0]), limit = REAL(0);
        const int finite = norm - norm == 0.0 && loss[0] - loss[0] == 0.0f;
        if (finite) steps[0] += 1;
        const double clip = limit >= 0.0 ? limit / (norm + 1e-6) : 1.0, t = steps[0] > 0 ? steps[0] : 1;
        control[0] = clip < 1.0 ? (float)clip : 1.0f;
        control[1] = (float)(REAL(1) / (1.0 - pow(0.9, t)));
        control[2] = (float)(1.0 / sqrt(1.0 - pow(0.999, t)));
        control[3] = finite ? 1.0f : 0.0f;
        control[4] = (float)norm;
        control[5] = loss[0];
    }
}

// Adam and AdamW. Real 0: decay that joins the gradient, 1: what decay leaves of a weight.
KERNEL(adam) {
    float *w = FLOATS(0), *m = FLOATS(2), *v = FLOATS(3);
    const float *g = FLOATS(1), *control = FLOATS(4);
    EACH(i, control[3] != 0.0f ? COUNT(0) : 0) {
        const float gradient = g[i] * control[0] + w[i] * REAL(0);
        m[i] = m[i] * 0.9f + gradient * 0.1f;
        v[i] = v[i] * 0.999f + gradient * gradient * 0.001f;
        w[i] = w[i] * REAL(1) - m[i] * control[1] / (sqrtf(v[i]) * control[2] + 1e-8f);
    }
}

// Momentum. Real 0: decay that joins the gradient, 1: learning rate, 2: momentum; count 1: whether it looks ahead.
KERNEL(sgd) {
    float *w = FLOATS(0), *m = FLOATS(2);
    const float *g = FLOATS(1), *control = FLOATS(3);
    EACH(i, control[3] != 0.0f ? COUNT(0) : 0) {
        const float gradient = g[i] * control[0] + w[i] * REAL(0);
        m[i] = m[i] * REAL(2) + gradient;
        w[i] -= REAL(1) * (COUNT(1) ? gradient + m[i] * REAL(2) : m[i]);
    }
}
