/* Recognises a drawn digit with the network that comes with Pare. */
#include "board.h"
#include "glyphs.h"
#include "pare.h"

enum { EDGE = 32, ROWS = EDGE / 2, INK = 220, PAPER = 60 };

/* Each bit is a square of two by two pixels; the leftmost column is the highest bit. */
static const uint16_t drawing[ROWS] = {
    0x0000, 0x0000, 0x0000, 0x0ff0, 0x0ff0, 0x0030, 0x0060, 0x0060,
    0x00c0, 0x00c0, 0x0180, 0x0180, 0x0300, 0x0300, 0x0000, 0x0000,
};

/* The network takes (grey - 128) / 64. With constants the compiler computes this, and no float reaches the device. */
#define CODE(grey) ((uint8_t)(((grey) - 128) / 64.0f / GLYPHS_INPUT0_SCALE + GLYPHS_INPUT0_ZERO + 0.5f))

static uint8_t arena[GLYPHS_ARENA_BYTES] PARE_ALIGNED;
static pare_session session;

/* A watch on the layers: a profiler would read a timer here. */
static void count(void *context, size_t layer, const uint8_t *output, size_t output_bytes) {
    (void)layer, (void)output_bytes;
    if (output)
        ++*(unsigned *)context;
}

int main(void) {
    pare_status status = pare_init(&session, glyphs, glyphs_size, arena, sizeof arena);
    if (status != PARE_OK) {
        print_number("pare_init failed with status ", status);
        return status;
    }

    uint8_t *input = pare_input(&session, 0, NULL);
    for (int y = 0; y < EDGE; y++)
        for (int x = 0; x < EDGE; x++)
            input[EDGE * y + x] = drawing[y / 2] >> (ROWS - 1 - x / 2) & 1 ? CODE(INK) : CODE(PAPER);

    unsigned layers = 0;
    pare_invoke_hooked(&session, count, &layers);

    size_t classes;
    const uint8_t *scores = pare_output(&session, 0, &classes);
    size_t best = 0;
    for (size_t i = 1; i < classes; i++)
        if (scores[i] > scores[best])
            best = i;
    print_number("layers ", layers);
    print_number("digit ", best);
    for (size_t i = 0; i < classes; i++)
        print_number("score ", scores[i]);
    return 0;
}
