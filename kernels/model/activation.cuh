/* activation.cuh: the activations of one value.
 *
 *     SILU       x / (1 + exp(-x))
 *     GELU       x / 2 * (1 + erf(x / sqrt 2))
 *     GELU_TANH  x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
 *     RELU       max(x, 0), NaN stays              RELU2: its square */
#ifndef STEER_KERNELS_ACTIVATION_CUH
#define STEER_KERNELS_ACTIVATION_CUH

#include "model.cuh"

__device__ __forceinline__ float steer_act(steer_activation act, float x) {
    switch (act) {
    case STEER_ACT_SILU:
        return x / (1.0f + expf(-x));
    case STEER_ACT_GELU:
        return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    case STEER_ACT_GELU_TANH:
        return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case STEER_ACT_RELU:
        return x < 0.0f ? 0.0f : x;
    default: /* STEER_ACT_RELU2 */
        return x < 0.0f ? 0.0f : x * x;
    }
}

#endif
