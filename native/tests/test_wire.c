/* The decoder: what it accepts comes out as it went in, and each way to be malformed is refused with its reason. */
#include <stdint.h>

#include "check.h"
#include "executor/plan.h"

struct builder {
    unsigned char steps[512], data[512], file[1100];
    uint32_t steps_len, data_len, n_steps;
};

static struct builder b;

static void begin(void) {
    memset(&b, 0, sizeof(b));
    b.data_len = 1;
}

static void put(const void *bytes, size_t n) {
    memcpy(b.steps + b.steps_len, bytes, n);
    b.steps_len += (uint32_t)n;
}

static void step(unsigned op, unsigned actor, unsigned flags, uint32_t pointer) {
    uint16_t number = (uint16_t)op;
    uint8_t bytes[2] = {(uint8_t)actor, (uint8_t)flags};
    put(&number, 2);
    put(bytes, 2);
    put(&pointer, 4);
    b.n_steps++;
}

static void number(uint64_t value) { put(&value, 8); }

static uint32_t text(const char *bytes, size_t len) {
    uint32_t at = b.data_len;
    memcpy(b.data + at, bytes, len);
    b.data_len += (uint32_t)len + 1;
    return at;
}

static uint64_t reference(uint32_t at, uint32_t len) { return (uint64_t)len << 32 | at; }

static size_t finish(void) {
    struct plan_header h = {.magic = PLAN_MAGIC, .version = PLAN_VERSION, .n_steps = b.n_steps};
    h.steps_len = b.steps_len;
    h.data_len = b.data_len;
    h.total_len = (uint32_t)sizeof(h) + b.steps_len + b.data_len;
    memcpy(b.file, &h, sizeof(h));
    memcpy(b.file + sizeof(h), b.steps, b.steps_len);
    memcpy(b.file + sizeof(h) + b.steps_len, b.data, b.data_len);
    return h.total_len;
}

/* Decodes an exact heap copy, so that ASan sees one byte too far. Returns the reason, "" if it is accepted. */
static const char *decode(size_t len, struct plan *plan) {
    const char *why = NULL;
    unsigned char *copy = malloc(len ? len : 1);
    memcpy(copy, b.file, len);
    int r = plan_decode(plan, copy, len, &why);
    CHECK((r == 0) == (why == NULL));
    if (r != 0)
        free(copy);
    return why ? why : "";
}

static void release(struct plan *plan) {
    void *bytes = (void *)(uintptr_t)plan->bytes;
    plan_free(plan);
    free(bytes);
}

static void refused(const char *why) {
    struct plan plan;
    CHECK_TEXT(why, decode(finish(), &plan));
}

static void test_plan_comes_out_as_it_went_in(void) {
    struct plan plan;
    struct step s;
    char words[128];
    begin();
    uint32_t pointer = text("mounts[3]", 9), path = text("/a", 2), vec = text("x\0yy\0", 5);
    step(OP_MKDIR, ACTOR_INIT, STEP_OPTIONAL, pointer);
    number(reference(path, 2));
    number(0755);
    step(OP_JOIN_PATHS, ACTOR_STAGE, 0, 0);
    number(reference(vec, 5));
    CHECK_TEXT("", decode(finish(), &plan));
    CHECK_INT(2, plan.n_steps);
    plan_step(&plan, 0, &s);
    CHECK_INT(OP_MKDIR, s.op);
    CHECK_INT(ACTOR_INIT, s.actor);
    CHECK_INT(STEP_OPTIONAL, s.flags);
    CHECK_TEXT("mounts[3]", s.pointer);
    CHECK_TEXT("/a", s.arg[0].ptr);
    CHECK_INT(0755, s.arg[1].num);
    plan_describe(&s, words, sizeof(words));
    CHECK_TEXT("create directory /a", words);
    plan_step(&plan, 1, &s);
    CHECK_TEXT("", s.pointer);
    CHECK_INT(2, vec_count(&s.arg[0]));
    const char *second = vec_next(&s.arg[0], vec_next(&s.arg[0], NULL));
    CHECK_TEXT("yy", second);
    CHECK(vec_next(&s.arg[0], second) == NULL);
    CHECK_TEXT("JOIN_PATHS", plan_op_name(s.op));
    release(&plan);
}

static void test_description_is_cut_when_the_buffer_is_small(void) {
    struct plan plan;
    struct step s;
    char words[10];
    begin();
    uint32_t path = text("/a/long/path", 12);
    step(OP_MASK, ACTOR_INIT, 0, 0);
    number(reference(path, 12));
    CHECK_TEXT("", decode(finish(), &plan));
    plan_step(&plan, 0, &s);
    plan_describe(&s, words, sizeof(words));
    CHECK_TEXT("mask /a/l", words);
    release(&plan);
}

static void test_every_prefix_is_refused(void) {
    struct plan plan;
    begin();
    uint32_t path = text("/a", 2);
    step(OP_MKDIR, ACTOR_INIT, 0, 0);
    number(reference(path, 2));
    number(0);
    size_t len = finish();
    for (size_t n = 0; n < len; n++)
        CHECK(decode(n, &plan)[0] != '\0');
}

static void test_header_is_refused_when_a_field_is_wrong(void) {
    struct plan plan;
    static const struct {
        size_t offset;
        const char *why;
    } cases[] = {
        {0, "it is not a plan"},
        {4, "it was made by another version"},
        {6, "its header is malformed"},
        {8, "its header is malformed"},
        {13, "its header is malformed"}, /* 256 * 255 steps */
        {16, "its lengths do not add up"},
        {20, "its lengths do not add up"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begin();
        step(OP_COMMIT, ACTOR_FRONT, 0, 0);
        number(0);
        size_t len = finish();
        b.file[cases[i].offset] ^= 0xff;
        CHECK_TEXT(cases[i].why, decode(len, &plan));
    }
}

static void test_step_is_refused_when_its_head_is_wrong(void) {
    begin();
    step(9, ACTOR_FRONT, 0, 0);
    refused("a step is not known to this version");
    begin();
    step(60000, ACTOR_FRONT, 0, 0);
    refused("a step is not known to this version");
    begin();
    step(OP_COMMIT, 3, 0, 0);
    number(0);
    refused("an actor is not known");
    begin();
    step(OP_COMMIT, ACTOR_FRONT, 2, 0);
    number(0);
    refused("a step's flag is not known");
    begin();
    step(OP_COMMIT, ACTOR_FRONT, 0, 1);
    number(0);
    refused("a pointer lies outside the data area");
    begin();
    step(OP_COMMIT, ACTOR_FRONT, 0, 0);
    refused("a step's arguments are cut off");
}

static void test_argument_is_refused_when_it_leaves_the_data_area(void) {
    static const struct {
        uint32_t offset, len;
        const char *why;
    } cases[] = {
        {1, 3, "a string has no end"},           {0, 4, "a string has no end"},
        {9, 0, "an argument lies outside the data area"}, {0xffffffffu, 1, "an argument lies outside the data area"},
        {1, 0xffffffffu, "an argument lies outside the data area"},
        {0, 2, "a string has no end"},
        {4, 0, "a string has no end"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begin();
        text("/a", 2);
        step(OP_MASK, ACTOR_INIT, 0, 0);
        number(reference(cases[i].offset, cases[i].len));
        refused(cases[i].why);
    }
}

static void test_string_is_refused_when_it_holds_a_nul(void) {
    begin();
    uint32_t at = text("a\0b", 3);
    step(OP_MASK, ACTOR_INIT, 0, 0);
    number(reference(at, 3));
    refused("a string holds a NUL");
}

static void test_vector_is_refused_when_its_last_string_has_no_end(void) {
    begin();
    uint32_t at = text("a\0b", 3);
    step(OP_JOIN_PATHS, ACTOR_STAGE, 0, 0);
    number(reference(at, 3));
    refused("a vector's last string has no end");
}

static void test_plan_is_refused_when_bytes_follow_the_last_step(void) {
    begin();
    step(OP_COMMIT, ACTOR_FRONT, 0, 0);
    number(0);
    number(0);
    refused("bytes follow its last step");
}

static void test_plan_is_refused_when_its_data_does_not_begin_and_end_with_nul(void) {
    begin();
    b.data[0] = 'x';
    refused("its data area does not begin and end with NUL");
    begin();
    text("ab", 2);
    b.data_len--;
    refused("its data area does not begin and end with NUL");
}

int main(void) {
    test_plan_comes_out_as_it_went_in();
    test_description_is_cut_when_the_buffer_is_small();
    test_every_prefix_is_refused();
    test_header_is_refused_when_a_field_is_wrong();
    test_step_is_refused_when_its_head_is_wrong();
    test_argument_is_refused_when_it_leaves_the_data_area();
    test_string_is_refused_when_it_holds_a_nul();
    test_vector_is_refused_when_its_last_string_has_no_end();
    test_plan_is_refused_when_bytes_follow_the_last_step();
    test_plan_is_refused_when_its_data_does_not_begin_and_end_with_nul();
    return 0;
}
