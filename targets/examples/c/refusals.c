/* Hands the runtime networks that are damaged, of another target, or want what is not linked, and arenas that are too
 * short: each must yield its status, and none a fault. */
#include "board.h"
#include "glyphs.h"
#include "pare.h"

/* Where the fields lie that are changed: see the format's specification in runtime/src/format. */
enum { VERSION = 4, LAYOUT = 6, CHECKSUM = 12, CHECKED = 16, LAYERS = 36, AUX = 44 };
enum { STAGE = 13, STAGE_BYTES = 8, CONV_BYTES = 32, DEPTH_TO_SPACE = 12, UNKNOWN = 200, FIVE_BITS = 5 };

/* A copy to be changed, one byte longer so that it can be misaligned. */
static uint8_t copy[GLYPHS_BLOB_BYTES + 1] PARE_ALIGNED;
static uint8_t arena[GLYPHS_ARENA_BYTES] PARE_ALIGNED;
static pare_session session;
static unsigned refused, mistaken;

/* A fresh copy. */
static uint8_t *whole(unsigned from) {
    for (unsigned i = 0; i < GLYPHS_BLOB_BYTES; i++)
        copy[from + i] = glyphs[i];
    return copy + from;
}

static uint32_t word(unsigned at) {
    return copy[at] | copy[at + 1] << 8 | copy[at + 2] << 16 | (uint32_t)copy[at + 3] << 24;
}

static void put(unsigned at, uint32_t word) {
    for (int i = 0; i < 4; i++)
        copy[at + i] = word >> 8 * i;
}

/* Makes the checksum right again, so that what lies behind it is looked at. */
static void seal(void) {
    uint32_t nibbles[16], crc = ~0u;
    for (uint32_t i = 0; i < 16; i++) {
        nibbles[i] = i;
        for (int bit = 0; bit < 4; bit++)
            nibbles[i] = nibbles[i] >> 1 ^ (nibbles[i] & 1 ? 0xedb88320u : 0);
    }
    for (unsigned i = CHECKED; i < GLYPHS_BLOB_BYTES; i++) {
        crc = nibbles[(crc ^ copy[i]) & 15] ^ crc >> 4;
        crc = nibbles[(crc ^ copy[i] >> 4) & 15] ^ crc >> 4;
    }
    put(CHECKSUM, ~crc);
}

static void expect(const char *what, pare_status status, pare_status expected) {
    if (status == expected && !pare_input(&session, 0, NULL)) {
        refused++;
        return;
    }
    print_number(what, status);
    mistaken++;
}

static pare_status init(const uint8_t *network) {
    return pare_init(&session, network, GLYPHS_BLOB_BYTES, arena, sizeof arena);
}

/* The network with another byte. */
static pare_status changed(unsigned at, uint8_t byte) {
    whole(0)[at] = byte;
    seal();
    return init(copy);
}

int main(void) {
    uint8_t *network = whole(0);
    unsigned first = word(LAYERS);
    while (copy[first] == STAGE)
        first += STAGE_BYTES;

    expect("no network: ", init(NULL), PARE_NULL);
    expect("no arena: ", pare_init(&session, network, GLYPHS_BLOB_BYTES, NULL, 0), PARE_NULL);
    expect("less than a header: ", pare_init(&session, network, 63, arena, sizeof arena), PARE_NOT_A_BLOB);
    expect("another file: ", changed(0, 'p'), PARE_NOT_A_BLOB);
    expect("an odd address: ", init(whole(1)), PARE_NOT_A_BLOB);
    expect("another version: ", changed(VERSION, 99), PARE_VERSION);
    expect("an operator from the future: ", changed(first, UNKNOWN), PARE_VERSION);
    expect("another target's layout: ", changed(LAYOUT, 99), PARE_LAYOUT);
    expect("a cut network: ", pare_init(&session, whole(0), GLYPHS_BLOB_BYTES - 1, arena, sizeof arena), PARE_DAMAGED);
    whole(0)[GLYPHS_BLOB_BYTES - 1] ^= 1;
    expect("a flipped bit: ", init(copy), PARE_DAMAGED);
    expect("a tensor that is not there: ", changed(first + 9, 99), PARE_DAMAGED);
    expect("a short arena: ", pare_init(&session, whole(0), GLYPHS_BLOB_BYTES, arena, sizeof arena - 1), PARE_ARENA);
    put(first + 4, GLYPHS_ARENA_BYTES);
    seal();
    expect("too little scratch: ", init(copy), PARE_KERNELS);
    expect("an operator of other networks: ", changed(first, DEPTH_TO_SPACE), PARE_NOT_LINKED);
    expect("weights of other networks: ", changed(first + CONV_BYTES, FIVE_BITS), PARE_NOT_LINKED);
    pare_invoke(&session);

    /* All else that can be wrong in header and records: whatever the status, nothing faults, not even what runs. */
    unsigned swept = 0;
    for (unsigned at = 0; at < word(AUX); at++) {
        if (changed(at, ~glyphs[at]) == PARE_OK && at % 16 == 0)
            pare_invoke(&session);
        whole(0);
        swept++;
    }

    print_number("refused ", refused);
    print_number("mistaken ", mistaken);
    print_number("swept ", swept);
    return mistaken > 0;
}
