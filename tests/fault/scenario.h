/* A scenario runs once, start to end, in a process of its own, and judges its own result. */
#ifndef TESTS_FAULT_SCENARIO_H
#define TESTS_FAULT_SCENARIO_H

#include "base/err.h"

enum outcome {
    OUTCOME_PASSED = 0,
    OUTCOME_CLEAN = 3, /* it failed and said so */
    OUTCOME_WRONG = 4, /* it claims success with a wrong result, or blames the wrong party */
    OUTCOME_SILENT = 5 /* it failed without a word */
};

struct scenario {
    const char *name;
    enum outcome (*run)(void);
};

extern const struct scenario chat_scenario, conf_scenario, gguf_scenario, catalogue_scenario;

/* Where the scenarios' files lie; made by the runner, empty at first. Set before any scenario runs. */
extern const char *scenario_folder;
/* A GGUF file without flaws. */
extern const char *scenario_gguf;

/* The outcome of a function that returned false with this error; tells it on stderr. */
enum outcome scenario_failed(const struct err *err);

#endif
