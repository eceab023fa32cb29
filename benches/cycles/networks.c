/* The networks of MLPerf Tiny by the functions of CMSIS-NN that OctoML's submission to its round 1.0 calls: what a chip
   took for these is published. Average pooling and softmax are left out (below 1 % of each network). The counter is read in
   pairs, around nothing at first and then around each network, for the plugin that estimates cycles. */
#include <math.h>

#include "arm_nnfunctions.h"
#include "semihosting.h"
#include "cortex-m.c"

typedef enum { CONVOLUTION, DEPTHWISE, DENSE, ADD, QUANTISE, DEQUANTISE } Kind;

typedef struct {
    Kind kind;
    int height, width, channels, filters, kernel_height, kernel_width, stride;
} Layer;

typedef struct {
    const char *name;
    int layers;
    const Layer *layer;
} Network;

enum { MOST_CODES = 48 * 48 * 16, MOST_WEIGHTS = 256 * 1200, MOST_FILTERS = 640 };

/* In flash. The numbers matter little to the cycles: hardly a branch goes by them. */
static const int8_t weights[MOST_WEIGHTS] = {[0 ... MOST_WEIGHTS - 1] = -3};
static const int32_t biases[MOST_FILTERS] = {[0 ... MOST_FILTERS - 1] = 1000};
static const int32_t multipliers[MOST_FILTERS] = {[0 ... MOST_FILTERS - 1] = 1695943312};
static const int32_t shifts[MOST_FILTERS] = {[0 ... MOST_FILTERS - 1] = -8};

static int8_t codes[3][MOST_CODES] __attribute__((aligned(4)));
static int8_t scratch[16384] __attribute__((aligned(4)));
static float floats[MOST_FILTERS];

#define CONV(size, channels, filters, kernel, stride) {CONVOLUTION, size, size, channels, filters, kernel, kernel, stride}
#define STRIDDEN(size, stride) ((size + stride - 1) / stride)
#define POINTWISE(height, width, channels, filters) {CONVOLUTION, height, width, channels, filters, 1, 1, 1}
#define PAIR(height, width, channels, filters, stride)                                                                     \
    {DEPTHWISE, height, width, channels, channels, 3, 3, stride},                                                          \
        POINTWISE(STRIDDEN(height, stride), STRIDDEN(width, stride), channels, filters)
#define FC(channels, filters) {DENSE, 1, 1, channels, filters, 1, 1, 1}
#define SUM(size, channels) {ADD, size, size, channels, channels, 1, 1, 1}
#define FLOATS(kind, count) {kind, 1, 1, count, count, 1, 1, 1}

static const Layer autoencoder[] = {
    FLOATS(QUANTISE, 640), FC(640, 128), FC(128, 128), FC(128, 128), FC(128, 128), FC(128, 8),
    FC(8, 128),            FC(128, 128), FC(128, 128), FC(128, 128), FC(128, 640), FLOATS(DEQUANTISE, 640),
};
static const Layer resnet[] = {
    CONV(32, 3, 16, 3, 1),  CONV(32, 16, 16, 3, 1), CONV(32, 16, 16, 3, 1), SUM(32, 16),
    CONV(32, 16, 32, 1, 2), CONV(32, 16, 32, 3, 2), CONV(16, 32, 32, 3, 1), SUM(16, 32),
    CONV(16, 32, 64, 1, 2), CONV(16, 32, 64, 3, 2), CONV(8, 64, 64, 3, 1),  SUM(8, 64),
    FC(64, 10),
};
/* Its first layer has one channel, so that TVM takes it for depthwise. */
static const Layer ds_cnn[] = {
    {DEPTHWISE, 49, 10, 1, 64, 10, 4, 2},
    PAIR(25, 5, 64, 64, 1), PAIR(25, 5, 64, 64, 1), PAIR(25, 5, 64, 64, 1), PAIR(25, 5, 64, 64, 1), FC(64, 12),
};
static const Layer mobilenet[] = {
    CONV(96, 3, 8, 3, 2),         PAIR(48, 48, 8, 16, 1),     PAIR(48, 48, 16, 32, 2),  PAIR(24, 24, 32, 32, 1),
    PAIR(24, 24, 32, 64, 2),      PAIR(12, 12, 64, 64, 1),    PAIR(12, 12, 64, 128, 2), PAIR(6, 6, 128, 128, 1),
    PAIR(6, 6, 128, 128, 1),      PAIR(6, 6, 128, 128, 1),    PAIR(6, 6, 128, 128, 1),  PAIR(6, 6, 128, 128, 1),
    PAIR(6, 6, 128, 256, 2),      PAIR(3, 3, 256, 256, 1),    FC(256, 2),
};

#define NETWORK(name, layers) {name, sizeof layers / sizeof *layers, layers}
static const Network networks[] = {
    NETWORK("resnet8 ", resnet),
    NETWORK("ds-cnn ", ds_cnn),
    NETWORK("mobilenet ", mobilenet),
    NETWORK("toycar ", autoencoder),
};

/* CMSDK timer 0 counts down at 25 MHz; an instruction takes 64 ns (`-icount shift=6`). */
static volatile uint32_t *const timer = (volatile uint32_t *)0x40000000;

__attribute__((noinline)) uint32_t read_counter(void) { return timer[1]; }

/* TensorFlow's padding "same": the part before the first row or column. */
static int before(int size, int kernel, int stride) {
    const int around = ((size + stride - 1) / stride - 1) * stride + kernel - size;
    return around > 0 ? around / 2 : 0;
}

static int weights_of(const Layer *l) {
    switch (l->kind) {
    case CONVOLUTION:
    case DENSE:
        return l->channels * l->filters * l->kernel_height * l->kernel_width;
    case DEPTHWISE:
        return l->filters * l->kernel_height * l->kernel_width;
    default:
        return 0;
    }
}

static int run(const Layer *l, const int8_t *weight, const int8_t *in, int8_t *out) {
    const int stride = l->stride, count = l->height * l->width * l->channels;
    const cmsis_nn_context context = {scratch, sizeof scratch};
    const cmsis_nn_activation range = {-128, 127};
    const cmsis_nn_tile step = {stride, stride}, dense = {1, 1};
    const cmsis_nn_tile padding = {
        before(l->width, l->kernel_width, stride), before(l->height, l->kernel_height, stride)};
    const cmsis_nn_dims input = {1, l->height, l->width, l->channels};
    const cmsis_nn_dims output = {1, STRIDDEN(l->height, stride), STRIDDEN(l->width, stride), l->filters};
    const cmsis_nn_dims bias = {1, 1, 1, l->filters};
    const cmsis_nn_per_channel_quant_params scales = {(int32_t *)multipliers, (int32_t *)shifts};
    switch (l->kind) {
    case CONVOLUTION: {
        const cmsis_nn_conv_params how = {128, -128, step, padding, dense, range};
        const cmsis_nn_dims filter = {l->filters, l->kernel_height, l->kernel_width, l->channels};
        return arm_convolve_wrapper_s8(
            &context, &how, &scales, &input, in, &filter, weight, &bias, biases, &output, out);
    }
    case DEPTHWISE: {
        const cmsis_nn_dw_conv_params how = {128, -128, l->filters / l->channels, step, padding, dense, range};
        const cmsis_nn_dims filter = {1, l->kernel_height, l->kernel_width, l->filters};
        return arm_depthwise_conv_wrapper_s8(
            &context, &how, &scales, &input, in, &filter, weight, &bias, biases, &output, out);
    }
    case DENSE: {
        const cmsis_nn_fc_params how = {128, 0, -128, range};
        const cmsis_nn_per_tensor_quant_params scale = {multipliers[0], shifts[0]};
        const cmsis_nn_dims filter = {l->channels, 1, 1, l->filters};
        return arm_fully_connected_s8(
            &context, &how, &scale, &input, in, &filter, weight, &bias, biases, &output, out);
    }
    case ADD:
        return arm_elementwise_add_s8(in, codes[2], 128, 1073741824, 0, 128, 1073741824, -1, 20, out, -128, 1073741824, -19,
                                      range.min, range.max, count);
    /* The submission's network takes and gives floats where the others have codes. */
    case QUANTISE:
        for (int i = 0; i < count; i++) {
            const float code = roundf(floats[i] * 2.47f) + 81.0f;
            out[i] = (int8_t)(code > 127.0f ? 127.0f : code < -128.0f ? -128.0f : code);
        }
        return 0;
    case DEQUANTISE:
        for (int i = 0; i < count; i++)
            floats[i] = (float)(in[i] - 89) * 0.376f;
        return 0;
    }
    return 1;
}

int main(void) {
    timer[2] = 0xffffffff; /* Where it begins anew. */
    timer[1] = 0xffffffff;
    timer[0] = 1;
    for (int i = 0; i < MOST_CODES; i++)
        codes[0][i] = codes[2][i] = (int8_t)(i * 37);
    for (int i = 0; i < MOST_FILTERS; i++)
        floats[i] = (float)(i % 50) - 25.3f;
    read_counter();
    read_counter();
    for (unsigned n = 0; n < sizeof networks / sizeof *networks; n++) {
        int which = 0, failed = 0;
        const int8_t *weight = weights;
        const uint32_t begin = read_counter();
        for (int i = 0; i < networks[n].layers; i++, which = !which) {
            failed |= run(&networks[n].layer[i], weight, codes[which], codes[!which]);
            weight += weights_of(&networks[n].layer[i]);
        }
        const uint32_t end = read_counter();
        if (failed)
            return 1;
        print_number(networks[n].name, (begin - end) / 8 * 5);
    }
    return 0;
}
