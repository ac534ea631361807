/* utf8.h: reads and writes UTF-8. */
#ifndef STEER_TEXT_UTF8_H
#define STEER_TEXT_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define STEER_UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Bytes of the character that begins with `lead`, in valid text. */
static inline size_t steer_utf8_size(char lead) {
    unsigned char c = (unsigned char)lead;
    return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* The character at p, in valid text. */
static inline uint32_t steer_utf8_get(const char *text) {
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80) return p[0];
    if (p[0] < 0xe0) return (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
    if (p[0] < 0xf0) return (p[0] & 0xfu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    return (p[0] & 7u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
}

/* Writes at most 4 bytes; returns how many. */
static inline size_t steer_utf8_put(char *out, uint32_t c) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t size = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((size == 2 ? 0xc0 : size == 3 ? 0xe0 : 0xf0) | c);
    return size;
}

/* Looks at the bytes of any text: the size of the character at p; 0 if p to end is the beginning of one; else minus the
 * number of bytes that stand for one U+FFFD (the longest beginning of a character, as Unicode recommends). */
int steer_utf8_scan(const char *p, const char *end);

#endif
