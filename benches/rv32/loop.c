/* A convolution as anyone would write it, over the layers of ResNet-8, 8 bits: what a compiler alone makes of RV32IMAC.
   It does the work of Pare's kernels: padding, biases, one rounding high multiplication an output, clamped codes. */
#include "semihosting.h"
#include "riscv.c"

enum { MOST = 32 * 32 * 16, WEIGHTS = 64 * 64 * 9 };

/* Not static, lest the compiler see that no one reads the output. */
uint8_t input[MOST], output[MOST];
int8_t weights[WEIGHTS];
int32_t bias[64], multipliers[64];

typedef struct {
    int size, channels, filters, kernel, stride;
} Layer;

static const Layer layers[] = {
    {32, 3, 16, 3, 1},  {32, 16, 16, 3, 1}, {32, 16, 16, 3, 1}, {32, 16, 32, 3, 2}, {16, 32, 32, 3, 1},
    {32, 16, 32, 1, 2}, {16, 32, 64, 3, 2}, {8, 64, 64, 3, 1},  {16, 32, 64, 1, 2}, {1, 64, 10, 1, 1},
};

/* "Same" padding; the zero point of the input is 0, so that padding adds nothing. */
static __attribute__((noinline)) void convolve(const Layer *l) {
    const int out = (l->size + l->stride - 1) / l->stride;
    const int around = (out - 1) * l->stride + l->kernel - l->size, pad = around > 0 ? around / 2 : 0;
    for (int y = 0; y < out; y++)
        for (int x = 0; x < out; x++)
            for (int filter = 0; filter < l->filters; filter++) {
                int32_t sum = bias[filter];
                for (int ky = 0; ky < l->kernel; ky++) {
                    const int row = y * l->stride + ky - pad;
                    if (row < 0 || row >= l->size)
                        continue;
                    for (int kx = 0; kx < l->kernel; kx++) {
                        const int column = x * l->stride + kx - pad;
                        if (column < 0 || column >= l->size)
                            continue;
                        const uint8_t *codes = input + (row * l->size + column) * l->channels;
                        const int8_t *levels = weights + ((filter * l->kernel + ky) * l->kernel + kx) * l->channels;
                        for (int channel = 0; channel < l->channels; channel++)
                            sum += codes[channel] * levels[channel];
                    }
                }
                int32_t code = (int32_t)(((int64_t)sum * multipliers[filter] + (1u << 31)) >> 32);
                code = code < 0 ? 0 : code > 255 ? 255 : code;
                output[(y * out + x) * l->filters + filter] = (uint8_t)code;
            }
}

static unsigned instructions(void) {
    unsigned count;
    __asm__ volatile("csrr %0, minstret" : "=r"(count) : : "memory");
    return count;
}

int main(void) {
    unsigned total = 0;
    for (int i = 0; i < MOST; i++)
        input[i] = (uint8_t)(i * 37);
    for (int i = 0; i < WEIGHTS; i++)
        weights[i] = (int8_t)(i * 29);
    for (int i = 0; i < 64; i++)
        multipliers[i] = 1 << 24;
    for (unsigned i = 0; i < sizeof layers / sizeof *layers; i++) {
        const unsigned before = instructions();
        convolve(&layers[i]);
        const unsigned taken = instructions() - before;
        print_number("layer ", taken);
        total += taken;
    }
    print_number("all layers ", total);
    return 0;
}
