/* inflate.c: raw deflate data of zip files, inflated by zlib into memory that is held like a mapped file. */
#include "core/file.h"
#include "core/interrupt.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>

enum {
    DEFLATE_MOST = 1032,  /* deflate makes no byte stand for more */
    PIECE_BYTES = 8 << 20 /* between two looks at the interrupt flag */
};

static int bad(const steer_map *map, const char *what) {
    return STEER_FAIL(STEER_E_FORMAT, "%.700s: its compressed data are damaged: %s", map->path, what);
}

/* Fills out->data, which has out->size bytes. */
static int run(z_stream *stream, steer_map *out, const steer_map *map, const uint8_t *data, int64_t size,
               uint32_t crc) {
    uint32_t found = 0;
    int64_t read = 0, made = 0;
    int result = Z_OK;
    while (result == Z_OK) {
        if (steer_interrupt_take()) return STEER_FAIL(STEER_E_INTERRUPTED, "interrupted");
        if (stream->avail_in == 0) {
            stream->next_in = (uint8_t *)(uintptr_t)(data + read);
            stream->avail_in = (uInt)(size - read < PIECE_BYTES ? size - read : PIECE_BYTES);
            read += stream->avail_in;
        }
        uint8_t past; /* a byte of room after the end shows whether there is more */
        const int64_t left = out->size - made, room = left < PIECE_BYTES ? left : PIECE_BYTES;
        stream->next_out = room ? out->data + made : &past;
        stream->avail_out = (uInt)(room ? room : 1);
        result = inflate(stream, Z_NO_FLUSH);
        const int64_t got = (room ? room : 1) - stream->avail_out;
        if (got > room) return bad(map, "they are larger than the file says");
        if (got > 0) found = (uint32_t)crc32(found, out->data + made, (uInt)got);
        made += got;
    }
    if (result == Z_MEM_ERROR)
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "%.700s: no memory to inflate it", map->path);
    if (result != Z_STREAM_END) return bad(map, stream->msg ? stream->msg : "they are cut short");
    if (made != out->size || read - stream->avail_in != size) return bad(map, "their size is wrong");
    return found == crc ? STEER_OK : bad(map, "their checksum is wrong");
}

static int create(steer_map **out, const steer_map *from, int64_t size) {
    steer_map *map = malloc(sizeof *map + strlen(from->path) + 1);
    void *data = NULL;
    if (map && size > 0)
        data = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!map || data == MAP_FAILED) {
        free(map);
        return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "%.700s: no memory for %lld bytes", from->path,
                          (long long)size);
    }
    steer_refs_init(&map->refs);
    strcpy(map->path, from->path);
    map->size = size;
    map->data = data;
    *out = map;
    return STEER_OK;
}

int steer_map_inflated(steer_map **out, const steer_map *map, int64_t offset, int64_t size, int64_t raw_size,
                       uint32_t crc) {
    if (raw_size / DEFLATE_MOST > size) return bad(map, "they cannot be as large as the file says");
    steer_map *made;
    STEER_TRY(create(&made, map, raw_size));
    z_stream stream = {0};
    int status = inflateInit2(&stream, -MAX_WBITS) == Z_OK
                     ? STEER_OK
                     : STEER_FAIL(STEER_E_OUT_OF_MEMORY, "%.700s: no memory to inflate it", map->path);
    if (status == STEER_OK) {
        status = run(&stream, made, map, map->data + offset, size, crc);
        inflateEnd(&stream);
    }
    if (status == STEER_OK)
        *out = made;
    else
        steer_map_drop(made);
    return status;
}
