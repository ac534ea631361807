/* test_file.c: maps, tensors over them, and the atomic writer, with the ways in which files fail. */
#define _GNU_SOURCE
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64];

/* A path in the test's folder; valid until the fourth call after. */
static const char *in_folder(const char *name) {
    static char paths[4][400];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void put(const char *path, const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(data, 1, size, file) == size && fclose(file) == 0);
}

static int holds(const char *path, const char *text) {
    char data[256] = "";
    FILE *file = fopen(path, "rb");
    if (!file) return 0;
    size_t n = fread(data, 1, sizeof data - 1, file);
    fclose(file);
    return n == strlen(text) && memcmp(data, text, n) == 0;
}

/* Entries of a folder, without . and .. */
static int entries(const char *path) {
    int count = 0;
    DIR *dir = opendir(path);
    while (dir && readdir(dir)) count++;
    if (dir) closedir(dir);
    return count - 2;
}

/* Writes text to path and commits; the status of the first call that fails. */
static int save(const char *path, const char *text) {
    steer_file *file = NULL;
    int status = steer_file_create(&file, path);
    if (status == STEER_OK) status = steer_file_write(file, text, (int64_t)strlen(text));
    if (status == STEER_OK) status = steer_file_commit(file);
    steer_file_release(file);
    return status;
}

/* ---- Maps ----------------------------------------------------------------------------------------------------- */

static void test_map_errors(void) {
    steer_map *map = NULL;
    CHECK_FAILS(steer_map_open(&map, NULL), STEER_E_INVALID_ARGUMENT, "path");
    CHECK_FAILS(steer_map_open(&map, ""), STEER_E_INVALID_ARGUMENT, "path");
    CHECK_FAILS(steer_map_open(NULL, "x"), STEER_E_INVALID_ARGUMENT, "out");
    CHECK_FAILS(steer_map_open(&map, in_folder("absent")), STEER_E_NOT_FOUND, "absent");
    CHECK_FAILS(steer_map_open(&map, folder), STEER_E_IO, "is a folder");
    CHECK(mkfifo(in_folder("pipe"), 0600) == 0);
    CHECK_FAILS(steer_map_open(&map, in_folder("pipe")), STEER_E_IO, "pipe");
    CHECK_FAILS(steer_map_open(&map, "/dev/null"), STEER_E_IO, "device");
    unlink(in_folder("pipe"));
    char longer[6000];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    CHECK_FAILS(steer_map_open(&map, longer), STEER_E_IO, "too long");
    CHECK(map == NULL);
    put(in_folder("empty"), "", 0);
    CHECK(steer_map_open(&map, in_folder("empty")) == STEER_OK);
    CHECK(steer_map_size(map) == 0 && steer_map_data(map) == NULL);
    steer_map_release(map);
    steer_map_release(NULL);
}

static void test_map_tensor(void) {
    float numbers[5] = {1, 2, 3, 4, 5};
    char bytes[21] = {0};
    memcpy(bytes, numbers, 20);
    put(in_folder("data"), bytes, sizeof bytes);
    steer_map *map;
    steer_tensor *tensor, *shifted;
    CHECK(steer_map_open(&map, in_folder("data")) == STEER_OK);
    CHECK(steer_map_size(map) == 21);
    CHECK(steer_map_tensor(&tensor, map, STEER_F32, 2, (int64_t[]){2, 2}, 4) == STEER_OK);
    CHECK(steer_map_tensor(&shifted, map, STEER_I64, 1, (int64_t[]){2}, 5) == STEER_OK); /* not aligned */
    CHECK((const uint8_t *)steer_tensor_data(tensor) == steer_map_data(map) + 4);
    CHECK(memcmp(steer_tensor_data(shifted), bytes + 5, 16) == 0);
    steer_map_release(map); /* the view keeps it */
    double value = 0;
    CHECK(steer_tensor_get(&value, tensor, (int64_t[]){1, 1}) == STEER_OK && value == 5);
    CHECK(steer_tensor_fill(tensor, 9) == STEER_OK); /* private: the file keeps its bytes */
    steer_tensor_release(tensor);
    steer_tensor_release(shifted);
    char after[21];
    FILE *file = fopen(in_folder("data"), "rb");
    CHECK(file && fread(after, 1, 21, file) == 21 && memcmp(after, bytes, 21) == 0);
    if (file) fclose(file);
}

static void test_map_tensor_bounds(void) {
    steer_map *map;
    steer_tensor *tensor = NULL;
    CHECK(steer_map_open(&map, in_folder("data")) == STEER_OK);
    const int64_t huge[] = {INT64_MAX / 2, 8}, eight[] = {8, 1, 1, 1, 1, 1, 1, 1, 1};
    CHECK_FAILS(steer_map_tensor(&tensor, map, STEER_F32, 1, (int64_t[]){6}, 0), STEER_E_FORMAT,
                "data: 24 bytes");
    CHECK_FAILS(steer_map_tensor(&tensor, map, STEER_U8, 1, (int64_t[]){1}, 21), STEER_E_FORMAT,
                "past its end");
    CHECK_FAILS(steer_map_tensor(&tensor, map, STEER_U8, 1, (int64_t[]){1}, INT64_MAX), STEER_E_FORMAT,
                "past");
    CHECK_FAILS(steer_map_tensor(&tensor, map, STEER_U8, 1, (int64_t[]){INT64_MAX}, 1), STEER_E_FORMAT,
                "past");
    CHECK_FAILS(steer_map_tensor(&tensor, map, STEER_U8, 1, (int64_t[]){1}, -1), STEER_E_INVALID_ARGUMENT,
                "offset");
    CHECK_FAILS(steer_map_tensor(&tensor, map, STEER_U8, 1, (int64_t[]){-1}, 0), STEER_E_INVALID_ARGUMENT,
                "shape");
    CHECK_FAILS(steer_map_tensor(&tensor, map, STEER_F32, 2, huge, 0), STEER_E_INVALID_ARGUMENT, "overflows");
    CHECK_FAILS(steer_map_tensor(&tensor, map, STEER_U8, 9, eight, 0), STEER_E_INVALID_ARGUMENT, "ndim");
    CHECK_FAILS(steer_map_tensor(&tensor, map, STEER_U8, -1, eight, 0), STEER_E_INVALID_ARGUMENT, "ndim");
    CHECK_FAILS(steer_map_tensor(&tensor, map, STEER_U8, 1, NULL, 0), STEER_E_INVALID_ARGUMENT, "shape");
    CHECK_FAILS(steer_map_tensor(&tensor, map, (steer_dtype)77, 0, NULL, 0), STEER_E_INVALID_ARGUMENT,
                "dtype");
    CHECK_FAILS(steer_map_tensor(&tensor, NULL, STEER_U8, 0, NULL, 0), STEER_E_INVALID_ARGUMENT, "map");
    CHECK_FAILS(steer_map_tensor(NULL, map, STEER_U8, 0, NULL, 0), STEER_E_INVALID_ARGUMENT, "out");
    CHECK(tensor == NULL);
    CHECK(steer_map_tensor(&tensor, map, STEER_U8, 2, (int64_t[]){3, 0}, 21) ==
          STEER_OK); /* nothing, at the end */
    CHECK(steer_tensor_numel(tensor) == 0);
    steer_tensor_release(tensor);
    steer_map_release(map);
}

static void test_map_doubles(void) {
    const double numbers[] = {0.1, 1 + 0x1p-24, 1 + 0x1p-24 + 0x1p-52,
                              -1e300}; /* halfway: to even; above: up */
    char bytes[33];
    memcpy(bytes + 1, numbers, 32);
    put(in_folder("doubles"), bytes, sizeof bytes);
    steer_map *map;
    steer_tensor *tensor = NULL;
    CHECK(steer_map_open(&map, in_folder("doubles")) == STEER_OK);
    CHECK_OK(steer_map_doubles(&tensor, map, 2, (int64_t[]){2, 2}, 1));
    const float *values = steer_tensor_data(tensor);
    CHECK(values[0] == 0.1f && values[1] == 1 && values[2] == 1 + 0x1p-23f && values[3] == -INFINITY);
    CHECK(steer_tensor_dtype(tensor) == STEER_F32 && steer_tensor_size(tensor, 1) == 2);
    steer_tensor_release(tensor);
    CHECK_FAILS(steer_map_doubles(&tensor, map, 1, (int64_t[]){4}, 2), STEER_E_FORMAT, "past its end");
    CHECK_FAILS(steer_map_doubles(&tensor, map, 1, (int64_t[]){-1}, 0), STEER_E_INVALID_ARGUMENT, "shape");
    CHECK_FAILS(steer_map_doubles(&tensor, NULL, 0, NULL, 0), STEER_E_INVALID_ARGUMENT, "map");
    CHECK_FAILS(steer_map_doubles(NULL, map, 0, NULL, 0), STEER_E_INVALID_ARGUMENT, "out");
    steer_map_release(map);
}

static void test_map_inflate(void) {
    /* "ab" 5000 times, between bytes of others */
    static const uint8_t packed[] = {0x55, 0xed, 0xc2, 0x01, 0x09, 0x00, 0x00, 0x00, 0x02, 0xa0,
                                     0xad, 0xf5, 0x7f, 0x44, 0x3b, 0x02, 0xd1, 0x34, 0x00, 0x00,
                                     0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x70, 0x6f, 0x55};
    enum { SIZE = 28, RAW = 10000 };
    const uint32_t crc = 0x7c58bc00;
    put(in_folder("packed"), packed, sizeof packed);
    steer_map *map, *out = NULL;
    CHECK(steer_map_open(&map, in_folder("packed")) == STEER_OK);
    CHECK_OK(steer_map_inflate(&out, map, 1, SIZE, RAW, crc));
    CHECK(out && steer_map_size(out) == RAW && memcmp(steer_map_data(out) + 9996, "abab", 4) == 0);
    steer_map_release(out);
    out = NULL;
    CHECK_FAILS(steer_map_inflate(&out, map, 1, SIZE, RAW, crc + 1), STEER_E_FORMAT,
                "their checksum is wrong");
    CHECK_FAILS(steer_map_inflate(&out, map, 1, SIZE, RAW - 1, crc), STEER_E_FORMAT,
                "larger than the file says");
    CHECK_FAILS(steer_map_inflate(&out, map, 1, SIZE, 0, crc), STEER_E_FORMAT, "larger than the file says");
    CHECK_FAILS(steer_map_inflate(&out, map, 1, SIZE, RAW + 1, crc), STEER_E_FORMAT, "their size is wrong");
    CHECK_FAILS(steer_map_inflate(&out, map, 1, SIZE + 1, RAW, crc), STEER_E_FORMAT, "their size is wrong");
    CHECK_FAILS(steer_map_inflate(&out, map, 1, SIZE - 1, RAW, crc), STEER_E_FORMAT, "they are cut short");
    CHECK_FAILS(steer_map_inflate(&out, map, 1, 0, 0, 0), STEER_E_FORMAT, "they are cut short");
    CHECK_FAILS(steer_map_inflate(&out, map, 0, SIZE, RAW, crc), STEER_E_FORMAT, "data are damaged");
    CHECK_FAILS(steer_map_inflate(&out, map, 1, SIZE, INT64_MAX, crc), STEER_E_FORMAT, "cannot be as large");
    CHECK_FAILS(steer_map_inflate(&out, map, 9, SIZE, RAW, crc), STEER_E_FORMAT, "past its end");
    CHECK_FAILS(steer_map_inflate(&out, map, -1, SIZE, RAW, crc), STEER_E_INVALID_ARGUMENT, "offset");
    CHECK_FAILS(steer_map_inflate(&out, map, 1, -1, RAW, crc), STEER_E_INVALID_ARGUMENT, "size");
    CHECK_FAILS(steer_map_inflate(&out, NULL, 1, SIZE, RAW, crc), STEER_E_INVALID_ARGUMENT, "map");
    CHECK(out == NULL);
    steer_map_release(map);
}

static void test_map_larger_than_memory(void) {
    const int64_t size = INT64_C(1) << 40;
    int fd = open(in_folder("sparse"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    if (ftruncate(fd, size) == 0) { /* some file systems have no files this large */
        CHECK(pwrite(fd, "\1\2\3\4", 4, size - 4) == 4);
        steer_map *map;
        steer_tensor *tensor;
        double value = 0;
        CHECK(steer_map_open(&map, in_folder("sparse")) == STEER_OK);
        CHECK(steer_map_tensor(&tensor, map, STEER_U8, 1, &size, 0) == STEER_OK);
        CHECK(steer_tensor_get(&value, tensor, (int64_t[]){size - 1}) == STEER_OK && value == 4);
        steer_tensor_release(tensor);
        steer_map_release(map);
    }
    close(fd);
    unlink(in_folder("sparse"));
}

/* A child that reads from a file that it has shortened is ended by SIGBUS, once it has named the file. */
static void test_shortened(void) {
#ifdef __SANITIZE_ADDRESS__
    return; /* has a handler of its own */
#endif
    static char bytes[20000];
    char said[600] = "";
    int messages[2], status = 0;
    put(in_folder("shrinking"), bytes, sizeof bytes);
    CHECK(pipe(messages) == 0);
    pid_t child = fork();
    if (child == 0) {
        steer_map *map;
        dup2(messages[1], STDERR_FILENO);
        if (steer_map_open(&map, in_folder("shrinking")) != STEER_OK) _exit(1);
        if (truncate(in_folder("shrinking"), 5000) != 0) _exit(2);
        _exit(((const volatile char *)steer_map_data(map))[19000] ? 3 : 4);
    }
    close(messages[1]);
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    CHECK(read(messages[0], said, sizeof said - 1) > 0);
    for (ssize_t n = 1, at = (ssize_t)strlen(said); n > 0; at += n)
        n = read(messages[0], said + at, sizeof said - 1 - (size_t)at);
    CHECK(strstr(said, in_folder("shrinking: the file was shortened")));
    close(messages[0]);
    unlink(in_folder("shrinking"));
}

/* ---- Writing -------------------------------------------------------------------------------------------------- */

static void test_write(void) {
    const char *path = in_folder("out");
    struct stat st;
    int before = entries(folder);
    umask(022);
    CHECK(save(path, "first") == STEER_OK && holds(path, "first"));
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0644);
    CHECK(chmod(path, 0640) == 0);
    CHECK(save(path, "second") == STEER_OK && holds(path, "second"));
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0640);
    CHECK(entries(folder) == before + 1);

    steer_file *file;
    CHECK(steer_file_create(&file, path) == STEER_OK);
    CHECK(steer_file_write(file, "third", 5) == STEER_OK);
    CHECK(holds(path, "second"));
    steer_file_release(file); /* never committed */
    CHECK(holds(path, "second") && entries(folder) == before + 1);

    CHECK(steer_file_create(&file, path) == STEER_OK && steer_file_commit(file) == STEER_OK);
    CHECK(holds(path, ""));
    CHECK_FAILS(steer_file_commit(file), STEER_E_CLOSED, "committed");
    CHECK_FAILS(steer_file_write(file, "x", 1), STEER_E_CLOSED, "committed");
    steer_file_release(file);
    steer_file_release(NULL);
    unlink(path);
}

static void test_write_errors(void) {
    steer_file *file = NULL;
    const char *path = in_folder("out");
    CHECK_FAILS(steer_file_create(&file, NULL), STEER_E_INVALID_ARGUMENT, "path");
    CHECK_FAILS(steer_file_create(&file, ""), STEER_E_INVALID_ARGUMENT, "path");
    CHECK_FAILS(steer_file_create(NULL, path), STEER_E_INVALID_ARGUMENT, "out");
    CHECK_FAILS(steer_file_create(&file, in_folder("absent/x")), STEER_E_NOT_FOUND, "absent/x");
    put(path, "old", 3);
    CHECK_FAILS(steer_file_create(&file, in_folder("out/x")), STEER_E_NOT_FOUND, "out/x");
    CHECK_FAILS(steer_file_create(&file, folder), STEER_E_IO, "is a folder");
    CHECK_FAILS(steer_file_create(&file, in_folder("")), STEER_E_IO, "is a folder");
    CHECK_FAILS(steer_file_create(&file, "/dev/full"), STEER_E_IO, "device");
    int status = steer_file_create(&file, "/proc/steer");
    CHECK(status == STEER_E_NOT_FOUND || status == STEER_E_IO);
    char longer[400] = "";
    memset(longer, 'a', 300);
    CHECK_FAILS(steer_file_create(&file, longer), STEER_E_IO, "too long");
    CHECK(file == NULL);

    CHECK(steer_file_create(&file, path) == STEER_OK);
    CHECK_FAILS(steer_file_write(file, NULL, 1), STEER_E_INVALID_ARGUMENT, "data");
    CHECK_FAILS(steer_file_write(file, "x", -1), STEER_E_INVALID_ARGUMENT, "size");
    CHECK_FAILS(steer_file_write(NULL, "x", 1), STEER_E_INVALID_ARGUMENT, "file");
    CHECK_FAILS(steer_file_write_tensor(file, NULL), STEER_E_INVALID_ARGUMENT, "tensor");
    CHECK_FAILS(steer_file_commit(NULL), STEER_E_INVALID_ARGUMENT, "file");
    steer_interrupt_raise();
    CHECK_FAILS(steer_file_write(file, "x", 1), STEER_E_INTERRUPTED, "interrupted");
    steer_file_release(file);
    CHECK(holds(path, "old"));
    unlink(path);
}

static void test_links(void) {
    CHECK(mkdir(in_folder("sub"), 0700) == 0);
    put(in_folder("sub/target"), "old", 3);
    CHECK(symlink("sub/target", in_folder("link")) == 0 && symlink("link", in_folder("link2")) == 0);
    CHECK(save(in_folder("link2"), "new") == STEER_OK);
    struct stat st;
    CHECK(lstat(in_folder("link"), &st) == 0 && S_ISLNK(st.st_mode));
    CHECK(holds(in_folder("sub/target"), "new"));
    unlink(in_folder("sub/target"));
    CHECK(save(in_folder("link2"), "made") == STEER_OK && holds(in_folder("sub/target"), "made"));
    CHECK(symlink("loop", in_folder("loop")) == 0);
    CHECK_FAILS(save(in_folder("loop"), "x"), STEER_E_IO, "loop");
    const char *names[] = {"loop", "link2", "link", "sub/target"};
    for (int i = 0; i < 4; i++) unlink(in_folder(names[i]));
    CHECK(rmdir(in_folder("sub")) == 0);
}

/* Writes every element of [300, 70, 80] f32, transposed, and of views of it: more than the staging buffer holds. */
static void test_write_tensor(void) {
    steer_device *cpu;
    steer_tensor *base, *turned, *empty;
    steer_file *file;
    steer_map *map;
    const int64_t n0 = 700, n1 = 90, n2 = 80;
    CHECK(steer_device_open(&cpu, "cpu") == STEER_OK);
    CHECK(steer_tensor_create(&base, cpu, STEER_F32, 3, (int64_t[]){n0, n1, n2}) == STEER_OK);
    CHECK(steer_tensor_create(&empty, cpu, STEER_F32, 2, (int64_t[]){0, 5}) == STEER_OK);
    float *data = steer_tensor_data(base);
    for (int64_t i = 0; i < n0 * n1 * n2; i++) data[i] = (float)i;
    for (int from = 0; from < 2; from++) {
        CHECK(steer_tensor_transpose(&turned, base, from, 2) == STEER_OK);
        CHECK(steer_file_create(&file, in_folder("tensor")) == STEER_OK);
        CHECK(steer_file_write_tensor(file, turned) == STEER_OK);
        CHECK(steer_file_write_tensor(file, empty) == STEER_OK);
        CHECK(steer_file_write_tensor(file, base) == STEER_OK);
        CHECK(steer_file_commit(file) == STEER_OK);
        steer_file_release(file);
        CHECK(steer_map_open(&map, in_folder("tensor")) == STEER_OK);
        CHECK(steer_map_size(map) == n0 * n1 * n2 * 8);
        const float *got = (const float *)steer_map_data(map);
        int64_t wrong = 0, at = 0;
        int64_t s[3] = {n0, n1, n2}, t[3] = {n1 * n2, n2, 1};
        s[2] = from == 0 ? n0 : n1, s[from] = n2, t[2] = from == 0 ? n1 * n2 : n2, t[from] = 1;
        for (int64_t i = 0; i < s[0]; i++)
            for (int64_t j = 0; j < s[1]; j++)
                for (int64_t k = 0; k < s[2]; k++)
                    wrong += got[at++] != (float)(i * t[0] + j * t[1] + k * t[2]);
        CHECK(wrong == 0);
        CHECK(memcmp(got + at, data, (size_t)at * 4) == 0);
        steer_map_release(map);
        steer_tensor_release(turned);
    }
    steer_tensor_release(base);
    steer_tensor_release(empty);
    steer_device_release(cpu);
    unlink(in_folder("tensor"));
}

/* ---- In a child process --------------------------------------------------------------------------------------- */

enum { NOT_ALLOWED = 2 };

/* Exit status of body() in a child: 0 if its checks hold, NOT_ALLOWED if the machine does not let it set up. */
static int in_child(int (*body)(void)) {
    pid_t child = fork();
    if (child == 0) {
        check_failures = 0;
        int status = body();
        _exit(check_failures ? 1 : status);
    }
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int limited_size(void) {
    const struct rlimit limit = {65536, 65536};
    static char block[100000];
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return NOT_ALLOWED;
    steer_file *file = NULL;
    CHECK_OK(steer_file_create(&file, in_folder("kept")));
    CHECK_FAILS(steer_file_write(file, block, sizeof block), STEER_E_IO,
                "kept: cannot write: File too large");
    CHECK_FAILS(steer_file_write(file, "x", 1), STEER_E_CLOSED, "earlier");
    CHECK_FAILS(steer_file_commit(file), STEER_E_CLOSED, "earlier");
    steer_file_release(file);
    return 0;
}

static int denied_folder(void) {
    if (geteuid() == 0 && seteuid(65534) != 0) return NOT_ALLOWED;
    steer_map *map;
    CHECK_FAILS(save(in_folder("locked/new"), "x"), STEER_E_IO, "Permission denied");
    CHECK_FAILS(save(in_folder("protected"), "x"), STEER_E_IO, "Permission denied");
    CHECK_FAILS(steer_map_open(&map, in_folder("secret")), STEER_E_IO, "Permission denied");
    return 0;
}

static int full_disk(void) {
    static char block[200000];
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("steer", in_folder("disk"), "tmpfs", 0, "size=65536") != 0)
        return NOT_ALLOWED;
    steer_file *file = NULL;
    CHECK_OK(save(in_folder("disk/x"), "old"));
    CHECK_OK(steer_file_create(&file, in_folder("disk/x")));
    CHECK_FAILS(steer_file_write(file, block, sizeof block), STEER_E_IO, "No space left");
    steer_file_release(file);
    CHECK(holds(in_folder("disk/x"), "old") && entries(in_folder("disk")) == 1);
    if (mount(NULL, in_folder("disk"), NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0)
        CHECK_FAILS(save(in_folder("disk/x"), "x"), STEER_E_IO, "Read-only file system");
    return 0;
}

static void test_refusals(void) {
    put(in_folder("kept"), "old", 3);
    put(in_folder("protected"), "old", 3);
    put(in_folder("secret"), "old", 3);
    CHECK(mkdir(in_folder("locked"), 0555) == 0 && mkdir(in_folder("disk"), 0755) == 0);
    CHECK(chmod(in_folder("protected"), 0444) == 0 && chmod(in_folder("secret"), 0) == 0 &&
          chmod(folder, 0755) == 0);
    int before = entries(folder);
    int (*const bodies[])(void) = {limited_size, denied_folder, full_disk};
    const char *const what[] = {"a size limit", "denied access", "a full disk"};
    for (int i = 0; i < 3; i++) {
        int status = in_child(bodies[i]);
        CHECK(status == 0 || status == NOT_ALLOWED);
        if (status == NOT_ALLOWED) fprintf(stderr, "not tested, as it is not allowed here: %s\n", what[i]);
    }
    CHECK(holds(in_folder("kept"), "old") && holds(in_folder("protected"), "old"));
    CHECK(entries(folder) == before);
    const char *names[] = {"kept", "protected", "secret"};
    for (int i = 0; i < 3; i++) unlink(in_folder(names[i]));
    CHECK(rmdir(in_folder("locked")) == 0 && rmdir(in_folder("disk")) == 0);
}

static void test_killed(void) {
    int ready[2];
    char byte;
    put(in_folder("kept"), "old", 3);
    CHECK(pipe(ready) == 0);
    pid_t child = fork();
    if (child == 0) {
        steer_file *file;
        int good = steer_file_create(&file, in_folder("kept")) == STEER_OK;
        good = good && steer_file_write(file, "half of it", 10) == STEER_OK && write(ready[1], "r", 1) == 1;
        if (good) pause();
        _exit(1);
    }
    CHECK(read(ready[0], &byte, 1) == 1);
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
    CHECK(holds(in_folder("kept"), "old"));
    close(ready[0]);
    close(ready[1]);
}

static void remove_folder(void) {
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) unlink(in_folder(entry->d_name));
    if (dir) closedir(dir);
    CHECK(rmdir(folder) == 0);
}

int main(void) {
    strcpy(folder, "/tmp/steer-test-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    test_map_errors();
    test_map_tensor();
    test_map_tensor_bounds();
    test_map_doubles();
    test_map_inflate();
    test_map_larger_than_memory();
    test_shortened();
    test_write();
    test_write_errors();
    test_links();
    test_write_tensor();
    test_refusals();
    test_killed();
    remove_folder();
    return check_result();
}
