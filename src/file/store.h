/* store.h: what the readers of weight files share: the list of tensors that they fill, and how names stand in messages. */
#ifndef STEER_FILE_STORE_H
#define STEER_FILE_STORE_H

#include "core/json.h"
#include "core/status.h"
#include "file/weights.h"

enum { STEER_NAME_MOST = 255 }; /* bytes of a tensor's name */

typedef struct steer_quoted {
    char text[72];
} steer_quoted;

/* A name from a file for a message: in quotes, cut after 60 bytes, control characters escaped. */
steer_quoted steer_quote(const char *text, size_t size);
#define STEER_QUOTE(bytes, size) (steer_quote((bytes), (size)).text)

/* Maps a file for the store, which keeps it, and refuses what people have in place of one: a pointer of Git LFS, a web page. */
int steer_weights_map(steer_weights *weights, steer_map **out, const char *path);
/* Room for `more` tensors. */
int steer_weights_reserve(steer_weights *weights, int64_t more, const char *path);
/* Counts the weight's bytes from its shape and format, checks them against `offset` and the file, and puts it into the list. The name is
 * copied; one that another tensor has is FORMAT. */
int steer_weights_add(steer_weights *weights, const steer_map *map, steer_weight weight, steer_gguf_text name,
                      int64_t offset);
/* FORMAT if data of tensors from `first` on overlap. */
int steer_weights_check_overlap(const steer_weights *weights, int32_t first);
int steer_weights_no_memory(const char *path);

/* Reads one mapped file into the list. (safetensors.c) */
int steer_weights_read_safetensors(steer_weights *weights, const steer_map *map);
/* Finds the files of a folder and reads them. (folder.c) */
int steer_weights_read_folder(steer_weights *weights, const char *folder);

#endif
