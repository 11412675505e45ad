/* The torture loop: runs a scenario again and again, each time in a child of its own, failing the 1st, 2nd, 3rd...
 * fallible call of each kind, until the scenario passes untouched. A child may succeed, fail with a message, or end
 * itself the documented way for want of memory. It may not crash, hang, leak (where a sanitizer looks), succeed with a
 * wrong result, or fail in silence; and calls that were only interrupted or cut short must not be noticed at all. */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/json_read.h"
#include "base/mem.h"
#include "fault/inject.h"
#include "fault/scenario.h"

#define CHILD_SECONDS 20
#define MOST_FAULTS   5000

static const char *const kinds[FAULT_KINDS] = {"memory", "libuv's memory", "calls", "interruptions", "short transfers"};
static const struct scenario *const scenarios[] = {&chat_scenario, &conf_scenario, &gguf_scenario, &catalogue_scenario};

const char *scenario_folder, *scenario_gguf;

enum outcome scenario_failed(const struct err *err)
{
    fprintf(stderr, "error %d: %s\n", err->code, err->message);
    return *err->message && err->code != ERR_NONE ? OUTCOME_CLEAN : OUTCOME_SILENT;
}

struct result {
    int status;
    char said[4096]; /* on stderr */
};

static void run_child(const struct scenario *s, struct fault *fault, int out)
{
    dup2(out, STDERR_FILENO);
    alarm(CHILD_SECONDS);
    fault_arm(fault);
    enum outcome outcome = s->run();
    fault_disarm();
    exit((int)outcome); /* not _exit: this is where leaks are looked for */
}

static void run(const struct scenario *s, struct fault *fault, struct result *result)
{
    int ends[2];
    size_t n = 0;
    ssize_t got;
    if (pipe(ends) != 0)
        abort();
    pid_t child = fork();
    if (child == 0)
        run_child(s, fault, ends[1]);
    close(ends[1]);
    while (n < sizeof result->said - 1 && (got = read(ends[0], result->said + n, sizeof result->said - 1 - n)) > 0)
        n += (size_t)got;
    result->said[n] = '\0';
    close(ends[0]);
    while (waitpid(child, &result->status, 0) < 0 && errno == EINTR)
        ;
}

/* NULL: as it should be. Otherwise what is wrong. */
static const char *verdict(const struct fault *fault, const struct result *r)
{
    bool memory = fault->kind <= FAULT_UV_MEMORY;
    bool harmless = fault->kind == FAULT_INTERRUPT || fault->kind == FAULT_SHORT;
    if (WIFSIGNALED(r->status)) {
        /* Declared benign: libuv has no way to report that its table of watched descriptors cannot grow
         * (uv__io_start, maybe_resize: the one realloc it makes here) and aborts. */
        if (WTERMSIG(r->status) == SIGABRT && strcmp(fault->where, "uv realloc") == 0)
            return NULL;
        return WTERMSIG(r->status) == SIGALRM ? "hangs" : "dies by a signal";
    }
    switch (WEXITSTATUS(r->status)) {
    case OUTCOME_PASSED: return NULL;
    case OUTCOME_CLEAN: return harmless ? "notices what it should not" : NULL;
    case OUTCOME_WRONG: return "has a wrong result";
    case OUTCOME_SILENT: return "fails without a message";
    case MEM_EXIT:
        if (strstr(r->said, "inferd: out of memory"))
            return memory ? NULL : "takes this for a lack of memory";
        return strstr(r->said, "inferd: no event loop") ? NULL : "ends without saying why";
    default: return "leaks, or ends in a way nobody documented";
    }
}

/* Returns the number of faults that went wrong. */
static int torture(const struct scenario *s, struct fault *fault, enum fault_kind kind, bool lasting)
{
    struct result result;
    int wrong = 0;
    unsigned nth = 0;
    do {
        *fault = (struct fault){.kind = kind, .nth = ++nth, .lasting = lasting};
        run(s, fault, &result);
        const char *why = verdict(fault, &result);
        if (!fault->hit && (!WIFEXITED(result.status) || WEXITSTATUS(result.status) != OUTCOME_PASSED))
            why = "does not pass untouched";
        if (!why)
            continue;
        wrong++;
        printf("%s: fault %u of %s (%s)%s: %s (status %x)\n%s\n", s->name, nth, kinds[kind], fault->where,
               lasting ? " and all later ones" : "", why, (unsigned)result.status, result.said);
    } while (fault->hit && nth < MOST_FAULTS && wrong < 10);
    printf("%s: %u faults of %s%s\n", s->name, nth - 1, kinds[kind], lasting ? ", lasting" : "");
    return wrong;
}

int main(int argc, char **argv)
{
    struct fault *fault = mmap(NULL, sizeof *fault, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char folder[] = "/tmp/inferd-fault-XXXXXX";
    int wrong = 0;
    if (argc != 3 || fault == MAP_FAILED || !mkdtemp(folder)) {
        fprintf(stderr, "usage: %s SCENARIO FILE.gguf\n", argv[0]);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    json_setup();
    scenario_folder = folder;
    scenario_gguf = argv[2];
    const struct scenario *s = NULL;
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios && !s; i++)
        if (strcmp(scenarios[i]->name, argv[1]) == 0)
            s = scenarios[i];
    for (int kind = 0; s && kind < FAULT_KINDS; kind++) {
        wrong += torture(s, fault, (enum fault_kind)kind, false);
        if (kind <= FAULT_UV_MEMORY)
            wrong += torture(s, fault, (enum fault_kind)kind, true);
    }
    rmdir(folder);
    return !s || wrong;
}
