/* Runs networks that `pare compile` made: on microcontrollers, without allocation, with integers alone.
 *
 *     static uint8_t arena[NET_ARENA_BYTES] PARE_ALIGNED;         // from the network's header
 *     static pare_session session;
 *     if (pare_init(&session, net, net_size, arena, sizeof arena) != PARE_OK) ...
 *     memcpy(pare_input(&session, 0, NULL), codes, NET_INPUT0_BYTES);
 *     pare_invoke(&session);
 *     const uint8_t *scores = pare_output(&session, 0, NULL);
 *
 * The library holds the kernels of the networks whose files PARE_NETWORKS named when it was built (paths as in PATH), or
 * all kernels if it named none.
 *
 * No function keeps state of its own: sessions may run at the same time, each with an arena of its own. */
#ifndef PARE_H
#define PARE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What suits every kernel, for arenas and for networks that are embedded by other means than their object file. */
#define PARE_ALIGNED __attribute__((aligned(64)))

/* What pare_init found. */
typedef enum pare_status {
    PARE_OK = 0,
    PARE_NULL = 1,       /* A pointer is null. */
    PARE_NOT_A_BLOB = 2, /* The bytes are no network, or their address is not divisible by 4. */
    PARE_VERSION = 3,    /* The network was made by another version of `pare`: compile it again. */
    PARE_LAYOUT = 4,     /* Its weights are laid out for another target: compile it for this one. */
    PARE_DAMAGED = 5,    /* The network was cut or damaged: flash it again. */
    PARE_ARENA = 6,      /* The arena is smaller than pare_arena_bytes says. */
    PARE_KERNELS = 7,    /* This processor's kernels want more memory than was planned: compile it again. */
    PARE_NOT_LINKED = 8  /* The library was built for other networks: name this one in PARE_NETWORKS. */
} pare_status;

/* A network, its memory and its kernels: filled by pare_init, its content is private. It refers to network and arena,
 * which must outlive it. */
typedef struct pare_session {
    uintptr_t opaque[48];
} pare_session;

/* Bytes of arena that a network needs; 0 where the bytes are none. */
size_t pare_arena_bytes(const void *network, size_t network_bytes);

/* Checks a network, every byte of it, and prepares a session. After any status but PARE_OK the session may be handed
 * to the other functions, which then do nothing and return null. */
pare_status pare_init(pare_session *session, const void *network, size_t network_bytes, void *arena,
                      size_t arena_bytes);

/* The codes of an input, to be filled before each run: real = scale * (code - zero). Their number goes to `bytes`
 * where that is not null. Null where there is no such input. */
uint8_t *pare_input(pare_session *session, size_t index, size_t *bytes);

/* Runs the network. Inputs share the arena with everything else: fill them again before the next run. */
void pare_invoke(pare_session *session);

/* Called before each layer, `output` being null, and after it, with its output's codes; for layers that run together in
   bands of rows, in every band, with the rows computed. */
typedef void (*pare_hook)(void *context, size_t layer, const uint8_t *output, size_t output_bytes);

/* The same, the hook watching. */
void pare_invoke_hooked(pare_session *session, pare_hook hook, void *context);

/* The codes of an output; otherwise as pare_input. Read them before filling the inputs again. */
const uint8_t *pare_output(const pare_session *session, size_t index, size_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
