/* test_kv.c: the pool of KV blocks against a model of it: promises, sharing, contents given up in order of their last use. */
#include "check.h"

#include "model/kv.h"

enum { BLOCKS = 13, CONTENTS = 30, SEQUENCES = 6, STEPS = 20000 };

static uint32_t state = 1;
static int pick(int n) {
    state = state * 1664525u + 1013904223u;
    return (int)((state >> 8) % (uint32_t)n);
}

static steer_hash content_of(int number, int32_t tokens[STEER_KV_BLOCK]) {
    for (int i = 0; i < STEER_KV_BLOCK; i++) tokens[i] = number * 100 + i;
    return steer_kv_content((steer_hash){0}, (steer_hash){0}, tokens);
}

static void test_hash(void) {
    int32_t a[STEER_KV_BLOCK], b[STEER_KV_BLOCK];
    steer_hash x = content_of(1, a), y = content_of(2, b), one = {1, 1};
    CHECK(!steer_hash_equal(x, y));
    CHECK(
        !steer_hash_equal(steer_kv_content(x, (steer_hash){0}, a), steer_kv_content(y, (steer_hash){0}, a)));
    CHECK(!steer_hash_equal(steer_kv_content(x, (steer_hash){0}, a), steer_kv_content(x, one, a)));
}

static void test_order(void) {
    steer_kv kv;
    int32_t tokens[STEER_KV_BLOCK], blocks[3];
    CHECK_OK(steer_kv_create(&kv, 3));
    CHECK(steer_kv_promise(&kv, 3) && !steer_kv_promise(&kv, 1));
    for (int i = 0; i < 3; i++) {
        blocks[i] = steer_kv_take(&kv);
        steer_hash content = content_of(i, tokens);
        steer_kv_publish(&kv, blocks[i], content, tokens);
    }
    for (int i = 2; i >= 0; i--) steer_kv_release(&kv, blocks[i]);
    CHECK(kv.available == 3 && kv.free == -1);
    CHECK(steer_kv_promise(&kv, 1));
    CHECK(steer_kv_find(&kv, content_of(2, tokens), tokens) == blocks[2]); /* used: now the last to go */
    steer_kv_release(&kv, blocks[2]);
    CHECK(steer_kv_promise(&kv, 1) && steer_kv_take(&kv) == blocks[1]);
    CHECK(!steer_kv_has(&kv, content_of(1, tokens), tokens) &&
          steer_kv_has(&kv, content_of(0, tokens), tokens));
    steer_kv_free(&kv);
}

/* Sequences of up to four blocks come and go; a shadow says which contents a block holds and who uses it. */
static void test_random(void) {
    steer_kv kv;
    int32_t held[SEQUENCES][4], count[SEQUENCES] = {0}, promised[SEQUENCES] = {0}, holds[BLOCKS];
    CHECK_OK(steer_kv_create(&kv, BLOCKS));
    for (int i = 0; i < BLOCKS; i++) holds[i] = -1;
    for (int step = 0; step < STEPS; step++) {
        int s = pick(SEQUENCES), used[BLOCKS] = {0}, in_use = 0, open = 0;
        int32_t tokens[STEER_KV_BLOCK];
        if (!promised[s] && !count[s]) {
            int want = 1 + pick(4);
            if (steer_kv_promise(&kv, want)) promised[s] = want;
        } else if (promised[s] && pick(3)) {
            int number = pick(CONTENTS);
            steer_hash content = content_of(number, tokens);
            int had = steer_kv_has(&kv, content, tokens);
            int32_t block = steer_kv_find(&kv, content, tokens);
            CHECK(had == (block >= 0) && (!had || holds[block] == number));
            if (block < 0) {
                block = steer_kv_take(&kv);
                holds[block] = -1;
                if (pick(2)) {
                    steer_kv_publish(&kv, block, content, tokens);
                    holds[block] = number;
                }
            }
            held[s][count[s]++] = block;
            promised[s]--;
        } else {
            while (count[s]) steer_kv_release(&kv, held[s][--count[s]]);
            steer_kv_give_back(&kv, promised[s]);
            promised[s] = 0;
        }
        for (int i = 0; i < SEQUENCES; i++) {
            open += promised[i];
            for (int j = 0; j < count[i]; j++) used[held[i][j]]++;
        }
        for (int i = 0; i < BLOCKS; i++) {
            in_use += used[i] > 0;
            CHECK(kv.blocks[i].users == used[i]);
        }
        CHECK(kv.available == BLOCKS - in_use - open);
    }
    CHECK(kv.hits > 100 && kv.evictions > 100);
    steer_kv_free(&kv);
}

int main(void) {
    test_hash();
    test_order();
    test_random();
    return check_result();
}
