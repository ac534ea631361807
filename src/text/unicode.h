/* unicode.h: normal forms, letter case and classes of characters, as tokenizers were trained with them. */
#ifndef STEER_TEXT_UNICODE_H
#define STEER_TEXT_UNICODE_H

#include "text/bytes.h"

typedef enum steer_form { STEER_NFC, STEER_NFD, STEER_NFKC, STEER_NFKD } steer_form;

/* Appends the normal form of valid text. */
int steer_unicode_normalize(steer_bytes *out, const char *text, size_t size, steer_form form);
/* Appends it in lower case, each character by itself (no final sigma). */
int steer_unicode_lower(steer_bytes *out, const char *text, size_t size);
/* Appends it without marks (categories Mn, Mc, Me). */
int steer_unicode_strip_marks(steer_bytes *out, const char *text, size_t size);

int steer_unicode_is_space(uint32_t c); /* White_Space */
int steer_unicode_is_word(uint32_t c);  /* \w: Alphabetic, marks, decimal digits, connectors, joiners */

/* Whether PCRE2 may see the character otherwise than the engine whose patterns these are (one of Unicode 16). */
int steer_unicode_is_late(uint32_t c);
/* Appends the text with every such character replaced by an older one of the same category and size in bytes, so that
 * patterns match at the same offsets. */
int steer_unicode_stand_ins(steer_bytes *out, const char *text, size_t size);

#endif
