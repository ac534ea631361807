/* from_gguf.h: a tokenizer from the metadata of a GGUF file. */
#ifndef STEER_TEXT_FROM_GGUF_H
#define STEER_TEXT_FROM_GGUF_H

#include "core/file.h"
#include "text/tokenizer.h"

/* NOT_FOUND if the file has none; UNSUPPORTED and FORMAT name the key. */
int steer_tokenizer_read_gguf(steer_tokenizer *tokenizer, const steer_map *map);

#endif
