/* The worker program: one model, served over a Unix socket or a TCP port until a signal ends it. */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

/* Exit status: 0 ended on request, 1 the engine or the listener failed, 2 usage, 4 the model cannot be loaded,
 * 7 resources, 8 GPU. */
int worker_main(int argc, char **argv);

#endif
