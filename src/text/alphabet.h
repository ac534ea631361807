/* alphabet.h: the letters that stand for bytes in byte-level vocabularies (those of GPT-2): printable Latin-1 characters
 * stand for themselves, the 68 other bytes for U+0100 to U+0143 in their order. */
#ifndef STEER_TEXT_ALPHABET_H
#define STEER_TEXT_ALPHABET_H

#include "text/bytes.h"
#include "text/utf8.h"

static inline uint32_t steer_alphabet_letter(unsigned char byte) {
    if (byte <= 0x20) return 0x100u + byte;
    if (byte >= 0x7f && byte <= 0xa0) return 0x121u + (byte - 0x7fu);
    return byte == 0xad ? 0x143 : byte;
}

/* The byte of a letter; -1 for other characters. */
static inline int steer_alphabet_byte(uint32_t letter) {
    if (letter > 0x143) return -1;
    if (letter == 0x143) return 0xad;
    if (letter >= 0x121) return (int)(letter - 0x121 + 0x7f);
    if (letter >= 0x100) return (int)(letter - 0x100);
    return letter <= 0x20 || (letter >= 0x7f && letter <= 0xa0) || letter == 0xad ? -1 : (int)letter;
}

/* Appends the letters of bytes. */
static inline int steer_alphabet_spell(steer_bytes *out, const char *text, size_t size) {
    STEER_TRY(steer_bytes_reserve(out, size * 2));
    for (size_t i = 0; i < size; i++)
        out->size += steer_utf8_put(out->data + out->size, steer_alphabet_letter((unsigned char)text[i]));
    return STEER_OK;
}

/* Appends the bytes of a text of letters, and gives 1 in *all; 0 and nothing appended if it has other characters. */
static inline int steer_alphabet_read(steer_bytes *out, const char *text, size_t size, int *all) {
    size_t before = out->size;
    STEER_TRY(steer_bytes_reserve(out, size));
    for (const char *p = text; p < text + size; p += steer_utf8_size(*p)) {
        int byte = steer_alphabet_byte(steer_utf8_get(p));
        if (byte < 0) {
            out->size = before;
            *all = 0;
            return STEER_OK;
        }
        out->data[out->size++] = (char)byte;
    }
    *all = 1;
    return STEER_OK;
}

#endif
