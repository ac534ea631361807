/* gguf_config.h: the metadata of a GGUF file as the text of a config.json. */
#ifndef STEER_MODEL_GGUF_CONFIG_H
#define STEER_MODEL_GGUF_CONFIG_H

#include "file/weights.h"
#include "model/config.h"

/* The text, which the caller frees. UNSUPPORTED names an architecture or a key that this version does not know, FORMAT what is missing. */
int steer_gguf_config(char **out, const steer_weights *weights);

#endif
