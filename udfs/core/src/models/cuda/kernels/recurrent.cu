// The element-wise halves of the recurrent cells: one time step of all rows that are still running. Gates and names as in
// PyTorch. Weights times inputs and states come from matrix products; biases are added here.

// gates [rows, 4 * hidden] (i, f, g, o) become activated; c_before is missing at the first step.
KERNEL(lstm_step) {
    float *gates = FLOATS(0);
    const float *bias_ih = FLOATS(1), *bias_hh = FLOATS(2), *c_before = FLOATS(3);
    float *c = FLOATS(4), *h = FLOATS(5);
    const unsigned rows = COUNT(0), hidden = COUNT(1);
    EACH(at, (Size)rows * hidden) {
        const unsigned j = (unsigned)(at % hidden);
        float *g = gates + at / hidden * 4 * hidden;
        const float i = sigmoid(g[j] + bias_ih[j] + bias_hh[j]);
        const float f = sigmoid(g[hidden + j] + bias_ih[hidden + j] + bias_hh[hidden + j]);
        const float n = tanhf(g[2 * hidden + j] + bias_ih[2 * hidden + j] + bias_hh[2 * hidden + j]);
        const float o = sigmoid(g[3 * hidden + j] + bias_ih[3 * hidden + j] + bias_hh[3 * hidden + j]);
        const float cell = (c_before ? f * c_before[at] : 0.0f) + i * n;
        g[j] = i;
        g[hidden + j] = f;
        g[2 * hidden + j] = n;
        g[3 * hidden + j] = o;
        c[at] = cell;
        h[at] = o * tanhf(cell);
    }
}

// Activated gates become the gradients before activation. d_h comes from the step after, d_out from above; d_c is that of
// the step after and becomes that of the step before.
KERNEL(lstm_step_back) {
    float *gates = FLOATS(0);
    const float *c = FLOATS(1), *c_before = FLOATS(2), *d_h = FLOATS(3), *d_out = FLOATS(4);
    float *d_c = FLOATS(5);
    const unsigned rows = COUNT(0), hidden = COUNT(1);
    EACH(at, (Size)rows * hidden) {
        const unsigned j = (unsigned)(at % hidden);
        float *gate = gates + at / hidden * 4 * hidden;
        const float i = gate[j], f = gate[hidden + j], g = gate[2 * hidden + j], o = gate[3 * hidden + j];
        const float tanh_c = tanhf(c[at]), d = d_h[at] + d_out[at];
        const float d_cell = d_c[at] + d * o * (1.0f - tanh_c * tanh_c);
        gate[j] = d_cell * g * i * (1.0f - i);
        gate[hidden + j] = c_before ? d_cell * f * (1.0f - f) * c_before[at] : 0.0f;
        gate[2 * hidden + j] = d_cell * i * (1.0f - g * g);
        gate[3 * hidden + j] = d * tanh_c * o * (1.0f - o);
        d_c[at] = d_cell * f;
    }
}

// gates [rows, 3 * hidden] (r, z, n), the input's share, become activated; recurrent, the state's share (nothing yet at the
// first step), gets its bias, of which the way back needs the part of n.
KERNEL(gru_step) {
    float *gates = FLOATS(0), *recurrent = FLOATS(1);
    const float *bias_ih = FLOATS(2), *bias_hh = FLOATS(3), *h_before = FLOATS(4);
    float *h = FLOATS(5);
    const unsigned rows = COUNT(0), hidden = COUNT(1);
    EACH(at, (Size)rows * hidden) {
        const unsigned j = (unsigned)(at % hidden);
        float *g = gates + at / hidden * 3 * hidden, *s = recurrent + at / hidden * 3 * hidden;
        const float s_r = (h_before ? s[j] : 0.0f) + bias_hh[j];
        const float s_z = (h_before ? s[hidden + j] : 0.0f) + bias_hh[hidden + j];
        const float s_n = (h_before ? s[2 * hidden + j] : 0.0f) + bias_hh[2 * hidden + j];
        const float r = sigmoid(g[j] + bias_ih[j] + s_r);
        const float z = sigmoid(g[hidden + j] + bias_ih[hidden + j] + s_z);
        const float n = tanhf(g[2 * hidden + j] + bias_ih[2 * hidden + j] + r * s_n);
        g[j] = r;
        g[hidden + j] = z;
        g[2 * hidden + j] = n;
        s[j] = s_r;
        s[hidden + j] = s_z;
        s[2 * hidden + j] = s_n;
        h[at] = n + z * ((h_before ? h_before[at] : 0.0f) - n);
    }
}

// Activated gates become the gradients of the input's share, recurrent those of the state's share; d_h, from the step
// after, becomes the part for the step before that does not go through the weights.
KERNEL(gru_step_back) {
    float *gates = FLOATS(0), *recurrent = FLOATS(1);
    const float *h_before = FLOATS(2), *d_out = FLOATS(3);
    float *d_h = FLOATS(4);
    const unsigned rows = COUNT(0), hidden = COUNT(1);
    EACH(at, (Size)rows * hidden) {
        const unsigned j = (unsigned)(at % hidden);
        float *g = gates + at / hidden * 3 * hidden, *s = recurrent + at / hidden * 3 * hidden;
        const float before = h_before ? h_before[at] : 0.0f, d = d_h[at] + d_out[at];
        const float r = g[j], z = g[hidden + j], n = g[2 * hidden + j];
        const float d_n = d * (1.0f - z) * (1.0f - n * n);
        const float d_z = d * (before - n) * z * (1.0f - z);
        const float d_r = d_n * s[2 * hidden + j] * r * (1.0f - r);
        g[j] = d_r;
        g[hidden + j] = d_z;
        g[2 * hidden + j] = d_n;
        s[j] = d_r;
        s[hidden + j] = d_z;
        s[2 * hidden + j] = d_n * r;
        d_h[at] = d * z;
    }
}

// h [rows, hidden], the shares of input and state, becomes the state.
KERNEL(rnn_step) {
    float *h = FLOATS(0);
    const float *bias_ih = FLOATS(1), *bias_hh = FLOATS(2);
    const unsigned rows = COUNT(0), hidden = COUNT(1), kind = COUNT(2);
    EACH(at, (Size)rows * hidden) {
        const unsigned j = (unsigned)(at % hidden);
        h[at] = activate(kind, h[at] + bias_ih[j] + bias_hh[j]);
    }
}

// d = the gradient before the activation; d_h comes from the step after, d_out from above.
KERNEL(rnn_step_back) {
    const float *h = FLOATS(0), *d_out = FLOATS(1), *d_h = FLOATS(2);
    float *d = FLOATS(3);
    const unsigned rows = COUNT(0), hidden = COUNT(1), kind = COUNT(2);
    EACH(at, (Size)rows * hidden) { d[at] = activate_back(kind, d_out[at] + d_h[at], h[at]); }
}
