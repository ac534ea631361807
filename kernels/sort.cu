/* sort.cu: rows in order, with the indices that their elements had.
 *
 * Every element becomes a key of unsigned bits in the order of the elements (NaN last, zeros of either sign equal), below
 * the number of its row, and all rows are sorted at once, by radix: pairs of key and index, stably. Rows of 64-bit
 * integers leave no bits for a row's number and are sorted one by one. */
#include "convert.cuh"

#include <cub/device/device_radix_sort.cuh>

namespace {

/* Bits of the keys of T. */
template <typename T> constexpr int key_bits = 8 * (int)sizeof(T);

template <typename T> __device__ __forceinline__ uint64_t key_of(T x, bool descending) {
    constexpr uint64_t all = ~0ull >> (64 - key_bits<T>), sign = 1ull << (key_bits<T> - 1);
    uint64_t key;
    if constexpr (std::is_same<T, uint8_t>::value) {
        key = x;
    } else if constexpr (!steer_is_float<T>) {
        key = (static_cast<uint64_t>(x) & all) ^ sign;
    } else {
        using word = typename std::conditional<sizeof(T) == 4, uint32_t, uint16_t>::type;
        word bits;
        memcpy(&bits, &x, sizeof bits);
        float value = steer_to_f32(x);
        key = value != value ? all : value == 0.0f ? sign : bits & sign ? ~(uint64_t)bits & all : bits | sign;
    }
    return descending ? ~key & all : key;
}

template <typename T>
__global__ void __launch_bounds__(256)
    keys_kernel(uint64_t *keys, int64_t *indices, const T *src, int64_t rows, int64_t n, bool descending) {
    for (int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x; i < rows * n; i += (int64_t)gridDim.x * 256) {
        uint64_t row = rows > 1 ? (uint64_t)(i / n) << (key_bits<T> % 64) : 0;
        keys[i] = row | key_of(src[i], descending);
        indices[i] = i % n;
    }
}

template <typename T>
__global__ void __launch_bounds__(256)
    values_kernel(T *values, const int64_t *indices, const T *src, int64_t numel, int64_t n) {
    for (int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x; i < numel; i += (int64_t)gridDim.x * 256)
        values[i] = src[i / n * n + indices[i]];
}

unsigned blocks_of(int64_t numel) {
    int64_t blocks = (numel + 255) / 256, most = 1 << 16;
    return (unsigned)(blocks < most ? blocks : most);
}

int bits_of(int64_t rows) {
    int bits = 0;
    while (rows > (int64_t)1 << bits) bits++;
    return bits;
}

/* Sorts rows together: `keys` and `from` are scratch, `to` gets the indices. */
template <typename T>
int sort_rows(steer_cuda_device *device, T *values, int64_t *to, const T *src, int64_t rows, int64_t n,
              bool descending, uint64_t *keys, int64_t *from) {
    cudaStream_t stream = steer_cuda_stream(device);
    int64_t numel = rows * n;
    int bits = key_bits<T> + bits_of(rows);
    uint64_t *sorted = keys + numel;
    steer_cuda_scratch work(device);
    size_t bytes = 0;
    keys_kernel<T><<<blocks_of(numel), 256, 0, stream>>>(keys, from, src, rows, n, descending);
    STEER_CUDA_LAUNCHED("the keys of a sort");
    STEER_CUDA_TRY(
        cub::DeviceRadixSort::SortPairs(nullptr, bytes, keys, sorted, from, to, numel, 0, bits, stream));
    STEER_CUDA_CHECK(work.get(bytes));
    STEER_CUDA_TRY(
        cub::DeviceRadixSort::SortPairs(work.data, bytes, keys, sorted, from, to, numel, 0, bits, stream));
    values_kernel<T><<<blocks_of(numel), 256, 0, stream>>>(values, to, src, numel, n);
    STEER_CUDA_LAUNCHED("the values of a sort");
    return STEER_OK;
}

} // namespace

int steer_cuda_sort(void *handle, const steer_view *values, const steer_view *indices, const steer_view *src,
                    int32_t descending) {
    auto *device = static_cast<steer_cuda_device *>(handle);
    STEER_CUDA_CHECK(steer_cuda_enter(device));
    return steer_with_dtype(src->dtype, [&](auto type) {
        using T = typename decltype(type)::type;
        int64_t rows = src->shape[0], n = src->shape[1];
        int64_t together = key_bits<T> + bits_of(rows) > 64 ? 1 : rows;
        steer_cuda_scratch keys(device), from(device);
        STEER_CUDA_CHECK(keys.get(sizeof(uint64_t) * (size_t)(2 * together * n)));
        STEER_CUDA_CHECK(from.get(sizeof(int64_t) * (size_t)(together * n)));
        for (int64_t row = 0; row < rows; row += together)
            STEER_CUDA_CHECK(sort_rows(device, static_cast<T *>(values->data) + row * n,
                                       static_cast<int64_t *>(indices->data) + row * n,
                                       static_cast<const T *>(src->data) + row * n, together, n,
                                       descending != 0, static_cast<uint64_t *>(keys.data),
                                       static_cast<int64_t *>(from.data)));
        return (int)STEER_OK;
    });
}
