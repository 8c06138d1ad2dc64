// What every kernel is written in: a subset of C that the run-time compiler of CUDA (NVRTC) takes for a GPU and any C
// compiler takes for a CPU, so that each kernel can be tested where there is no GPU.
//
// A kernel is KERNEL(name) { ... }. Its arguments are those of `Args`: addresses, counts and numbers. Work is spread with
// EACH(i, count), which gives every i < count to one thread of the whole grid, or by hand: BLOCK of BLOCKS takes a unit of
// work, and PHASE runs what follows for each LANE of LANES of the block, with a barrier at its end. Between phases lanes
// meet in `shared` only; no variable of one lane lives longer than its phase. Branches around a PHASE are the same for a
// whole block. There are no atomics: every sum has one order.

typedef unsigned long long Size;

typedef struct {
    Size p[14];
    unsigned n[14];
    float f[8];
} Args;

#ifdef __CUDACC__

#define KERNEL(name) extern "C" __global__ void name(const Args args)
#define INLINE static __device__ __forceinline__
#define ARG(field) args.field
#define BLOCK blockIdx.x
#define BLOCKS gridDim.x
#define LANE threadIdx.x
#define LANES blockDim.x
#define PHASE for (int once_ = 1; once_; once_ = 0, __syncthreads())
#define EACH(i, count) for (Size i = (Size)BLOCK * LANES + LANE; i < (count); i += (Size)BLOCKS * LANES)
extern __shared__ float shared[];

#else

#include <math.h>
#define KERNEL(name) \
    void name(const Args *args_, unsigned block_, unsigned blocks_, unsigned lanes_, unsigned backwards_, float *shared)
#define INLINE static inline
#define ARG(field) args_->field
#define BLOCK block_
#define BLOCKS blocks_
#define LANE lane_
#define LANES lanes_
// One lane after the other; the order must not matter, which tests see by turning it round.
#define PHASE \
    for (unsigned turn_ = 0, lane_ = backwards_ ? lanes_ - 1 : 0; (void)shared, turn_ < lanes_; turn_++, lane_ += backwards_ ? -1 : 1)
#define EACH(i, count) PHASE for (Size i = (Size)BLOCK * LANES + LANE; i < (count); i += (Size)BLOCKS * LANES)

#endif

#define FLOATS(i) ((float *)ARG(p[i]))
#define DOUBLES(i) ((double *)ARG(p[i]))
#define INTS(i) ((unsigned *)ARG(p[i]))
#define COUNT(i) ARG(n[i])
#define REAL(i) ARG(f[i])

// Sum and largest of LANES values in shared memory, a power of two of them; the result is in the first.
#define REDUCE(values) \
    for (unsigned half_ = LANES / 2; half_ > 0; half_ /= 2) PHASE if (LANE < half_) (values)[LANE] += (values)[LANE + half_]
#define REDUCE_MAX(values) \
    for (unsigned half_ = LANES / 2; half_ > 0; half_ /= 2) \
    PHASE if (LANE < half_ && (values)[LANE + half_] > (values)[LANE]) (values)[LANE] = (values)[LANE + half_]

// Activations as the host numbers them.
enum { IDENTITY = 0, RELU = 1, TANH = 2, SIGMOID = 3 };

INLINE float sigmoid(float x) { return 0.5f + 0.5f * tanhf(0.5f * x); }

INLINE float activate(unsigned kind, float x) {
    if (kind == RELU) return x > 0.0f ? x : 0.0f;
    if (kind == TANH) return tanhf(x);
    return kind == SIGMOID ? sigmoid(x) : x;
}

// The gradient before an activation, from the gradient behind it and its result.
INLINE float activate_back(unsigned kind, float gradient, float result) {
    if (kind == RELU) return result > 0.0f ? gradient : 0.0f;
    if (kind == TANH) return gradient * (1.0f - result * result);
    return kind == SIGMOID ? gradient * result * (1.0f - result) : gradient;
}
