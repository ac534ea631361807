/* utf8.c: which bytes are UTF-8. */
#include "text/utf8.h"

int steer_utf8_scan(const char *text, const char *text_end) {
    const unsigned char *p = (const unsigned char *)text, *end = (const unsigned char *)text_end;
    unsigned char c = *p;
    if (c < 0x80) return 1;
    if (c < 0xc2 || c > 0xf4) return -1;
    int size = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    /* The second byte keeps out long forms, surrogates and what lies past U+10FFFF. */
    unsigned char low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    unsigned char high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    for (int i = 1; i < size; i++) {
        if (p + i == end) return 0;
        if (p[i] < low || p[i] > high) return -i;
        low = 0x80;
        high = 0xbf;
    }
    return size;
}
