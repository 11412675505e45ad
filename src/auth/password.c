#include "auth/password.h"

#include <argon2.h>
#include <openssl/crypto.h>

#include "base/limits.h"
#include "base/mem.h"
#include "base/rand.h"

/* RFC 9106 leaves the choice; 19 MiB and two passes is what OWASP asks for at least. */
#define PASSES     2
#define MEMORY_KIB 19456
#define LANES      1
#define SALT_BYTES 16
#define HASH_BYTES 32

struct task {
    struct list link; /* in passwords->waiting or running */
    struct loop_job job;
    struct passwords *owner;         /* NULL: it is gone */
    struct arena_disposer *disposer; /* NULL: nobody waits */
    void (*on_hash)(void *arg, const char *phc);
    void (*on_checked)(void *arg, bool right);
    void *arg;
    bool has_phc, right;
    size_t length;
    char password[LIMIT_PASSWORD];
    char phc[PASSWORD_PHC_SIZE]; /* to check, or made */
};

struct passwords {
    struct loop *loop;
    struct list waiting, running; /* struct task */
    unsigned waiting_count, running_count;
};

struct passwords *passwords_new(struct loop *loop)
{
    struct passwords *p = mem_calloc(1, sizeof *p);
    p->loop = loop;
    list_init(&p->waiting);
    list_init(&p->running);
    return p;
}

static void task_free(struct task *t)
{
    list_remove(&t->link);
    arena_forget(t->disposer);
    OPENSSL_cleanse(t->password, sizeof t->password);
    mem_free(t);
}

void passwords_free(struct passwords *p)
{
    if (!p)
        return;
    list_each (t, &p->waiting, struct task, link) {
        task_free(t);
    }
    list_each (t, &p->running, struct task, link) {
        list_remove(&t->link);
        arena_forget(t->disposer);
        t->disposer = NULL;
        t->owner = NULL;
    }
    mem_free(p);
}

bool password_hash_now(struct str password, char out[PASSWORD_PHC_SIZE])
{
    unsigned char salt[SALT_BYTES];
    rand_bytes(salt, sizeof salt);
    return argon2id_hash_encoded(PASSES, MEMORY_KIB, LANES, password.p, password.n, salt, sizeof salt, HASH_BYTES, out,
                                 PASSWORD_PHC_SIZE) == ARGON2_OK;
}

static void compute(struct loop_job *job)
{
    struct task *t = container_of(job, struct task, job);
    struct str password = {t->password, t->length};
    char unused[PASSWORD_PHC_SIZE];
    if (t->on_hash)
        t->right = password_hash_now(password, t->phc);
    else if (t->has_phc)
        t->right = argon2id_verify(t->phc, password.p, password.n) == ARGON2_OK;
    else
        password_hash_now(password, unused); /* takes as long as a check */
}

static void start_next(struct passwords *p);

static void on_computed(struct loop_job *job)
{
    struct task *t = container_of(job, struct task, job);
    struct passwords *p = t->owner;
    if (p) {
        p->running_count--;
        start_next(p);
    }
    if (t->disposer) {
        arena_forget(t->disposer);
        t->disposer = NULL;
        if (t->on_hash)
            t->on_hash(t->arg, t->right ? t->phc : NULL);
        else
            t->on_checked(t->arg, t->right);
    }
    task_free(t);
}

static void start_next(struct passwords *p)
{
    while (p->running_count < LIMIT_PASSWORD_JOBS && !list_empty(&p->waiting)) {
        struct task *t = list_first(&p->waiting, struct task, link);
        list_remove(&t->link);
        list_push(&p->running, &t->link);
        p->waiting_count--;
        p->running_count++;
        loop_work(p->loop, &t->job, compute, on_computed);
    }
}

/* It goes on for nobody: a client that leaves must not make room for its next try at once. */
static void forget_waiter(void *arg)
{
    struct task *t = arg;
    t->disposer = NULL;
}

static struct task *add(struct passwords *p, struct str password, struct arena *waiter, void *arg)
{
    if (p->waiting_count >= LIMIT_PASSWORD_WAITING || password.n > LIMIT_PASSWORD)
        return NULL;
    struct task *t = mem_calloc(1, sizeof *t);
    t->owner = p;
    t->arg = arg;
    t->length = password.n;
    memcpy(t->password, password.p, password.n);
    t->disposer = arena_on_dispose(waiter, forget_waiter, t);
    list_push(&p->waiting, &t->link);
    p->waiting_count++;
    return t;
}

bool passwords_hash(struct passwords *p, struct str password, struct arena *waiter,
                    void (*on_hash)(void *arg, const char *phc), void *arg)
{
    struct task *t = add(p, password, waiter, arg);
    if (!t)
        return false;
    t->on_hash = on_hash;
    start_next(p);
    return true;
}

bool passwords_check(struct passwords *p, struct str password, const char *phc, struct arena *waiter,
                     void (*on_checked)(void *arg, bool right), void *arg)
{
    struct task *t = add(p, password, waiter, arg);
    if (!t)
        return false;
    t->on_checked = on_checked;
    t->has_phc = phc && strlen(phc) < sizeof t->phc;
    if (t->has_phc)
        memcpy(t->phc, phc, strlen(phc) + 1);
    start_next(p);
    return true;
}
