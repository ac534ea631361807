/* from_gguf.h: the tokenizer of a GGUF file, written as the JSON of a tokenizer.json. */
#ifndef STEER_TEXT_FROM_GGUF_H
#define STEER_TEXT_FROM_GGUF_H

#include "file/gguf.h"
#include "text/bytes.h"

/* Byte-level BPE (tokenizer.ggml.model gpt2) whose splitting (tokenizer.ggml.pre) is known here. NOT_FOUND if the file has no
 * tokenizer; FORMAT and UNSUPPORTED name the key. */
int steer_gguf_tokenizer_json(steer_bytes *out, const steer_gguf *gguf);
/* The id that a key such as tokenizer.ggml.bos_token_id holds, -1 if there is none. */
int32_t steer_gguf_token_id(const steer_gguf *gguf, const char *role);

#endif
