/* convert.c: the library's conversions of f16 and bf16, for the emulated kernels, which are C++. */
#include "tensor/dtype.h"

float emulated_from_f16(unsigned short bits);
unsigned short emulated_to_f16(float x);
unsigned short emulated_to_bf16(float x);

float emulated_from_f16(unsigned short bits) { return steer_f16_to_f32(bits); }
unsigned short emulated_to_f16(float x) { return steer_f32_to_f16(x); }
unsigned short emulated_to_bf16(float x) { return steer_f32_to_bf16(x); }
