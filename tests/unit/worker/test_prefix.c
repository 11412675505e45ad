#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "worker/prefix.h"

#define MARKS  12
#define LENGTH 40

static struct prefix_tree tree;

static const engine_token abc[] = {1, 2, 3, 4, 5, 6, 7, 8};

static void a_sequence_alone_is_one_node(void **state)
{
    (void)state;
    struct prefix_mark mark = {.kind = PREFIX_BUSY};
    prefix_tree_init(&tree);
    for (unsigned i = 0; i < 8; i++)
        prefix_append(&tree, &mark, &abc[i], 1);
    assert_int_equal(tree.nodes, 1); /* grown in place, not a node a token */
    assert_int_equal(prefix_find(&tree, abc, 8, PREFIX_BIT(PREFIX_BUSY)).length, 8);
    assert_ptr_equal(prefix_find(&tree, abc, 5, PREFIX_BIT(PREFIX_BUSY)).mark, &mark);
    prefix_cut(&tree, &mark, 0);
    assert_int_equal(tree.nodes, 0);
    prefix_tree_release(&tree);
}

static void what_holders_share_is_there_once(void **state)
{
    (void)state;
    struct prefix_mark a = {.kind = PREFIX_BUSY}, b = {.kind = PREFIX_IDLE};
    const engine_token other = 99;
    prefix_tree_init(&tree);
    prefix_append(&tree, &a, abc, 8);
    prefix_share(&tree, &a, &b, 5);
    prefix_append(&tree, &b, &other, 1);
    assert_int_equal(tree.nodes, 3); /* what both have, and what each has alone */
    assert_int_equal(prefix_find(&tree, abc, 8, PREFIX_BIT(PREFIX_IDLE)).length, 5);
    prefix_cut(&tree, &b, 0);
    assert_int_equal(tree.nodes, 1); /* a's two nodes are one again */
    prefix_cut(&tree, &a, 0);
    prefix_tree_release(&tree);
}

static void whole_holders_only(void **state)
{
    (void)state;
    struct prefix_mark a = {.kind = PREFIX_KEPT}, b = {.kind = PREFIX_KEPT};
    prefix_tree_init(&tree);
    prefix_append(&tree, &a, abc, 3);
    prefix_append(&tree, &b, abc, 7);
    struct prefix_match match = prefix_find_whole(&tree, abc, 6, PREFIX_BIT(PREFIX_KEPT));
    assert_ptr_equal(match.mark, &a);
    assert_int_equal(match.length, 3);
    assert_ptr_equal(prefix_find_whole(&tree, abc, 7, PREFIX_BIT(PREFIX_KEPT)).mark, &b);
    assert_null(prefix_find_whole(&tree, abc, 2, PREFIX_BIT(PREFIX_KEPT)).mark);
    prefix_cut(&tree, &a, 0);
    prefix_cut(&tree, &b, 0);
    prefix_tree_release(&tree);
}

/* ---- against a list of arrays ---- */

static struct {
    engine_token tokens[LENGTH];
    unsigned count;
    struct prefix_mark mark;
} model[MARKS];

static uint64_t random_state;

static unsigned pick(unsigned limit)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % limit;
}

static unsigned common(const engine_token *a, unsigned a_count, const engine_token *b, unsigned b_count)
{
    unsigned n = 0;
    while (n < a_count && n < b_count && a[n] == b[n])
        n++;
    return n;
}

static void change_one(void)
{
    unsigned i = pick(MARKS), j = pick(MARKS), n;
    switch (pick(6)) {
    case 0:
    case 1:
        n = pick(6);
        for (unsigned k = 0; k < n && model[i].count < LENGTH; k++) {
            engine_token token = (engine_token)pick(2);
            prefix_append(&tree, &model[i].mark, &token, 1);
            model[i].tokens[model[i].count++] = token;
        }
        break;
    case 2: {
        engine_token run[8];
        n = pick(8);
        n = n < LENGTH - model[i].count ? n : LENGTH - model[i].count;
        for (unsigned k = 0; k < n; k++)
            model[i].tokens[model[i].count + k] = run[k] = (engine_token)pick(2);
        prefix_append(&tree, &model[i].mark, run, n);
        model[i].count += n;
        break;
    }
    case 3:
        n = pick(model[i].count + 1);
        prefix_cut(&tree, &model[i].mark, n);
        model[i].count = n;
        break;
    case 4:
        if (i == j)
            break;
        prefix_cut(&tree, &model[i].mark, 0);
        n = pick(model[j].count + 1);
        prefix_share(&tree, &model[j].mark, &model[i].mark, n);
        memcpy(model[i].tokens, model[j].tokens, n * sizeof(engine_token));
        model[i].count = n;
        break;
    case 5: prefix_set_kind(&model[i].mark, (enum prefix_kind)pick(PREFIX_KINDS)); break;
    }
}

static void compare_lookups(void)
{
    engine_token wanted[LENGTH];
    unsigned count = pick(LENGTH) + 1, kinds = pick(1u << PREFIX_KINDS), longest = 0, whole = 0;
    unsigned source = pick(MARKS);
    for (unsigned k = 0; k < count; k++) /* half of it something that is there */
        wanted[k] = k < model[source].count && k < count / 2 ? model[source].tokens[k] : (engine_token)pick(2);
    for (unsigned i = 0; i < MARKS; i++) {
        assert_int_equal(model[i].mark.length, model[i].count);
        if (!(kinds & PREFIX_BIT(model[i].mark.kind)))
            continue;
        unsigned same = common(model[i].tokens, model[i].count, wanted, count);
        longest = same > longest ? same : longest;
        whole = same == model[i].count && same > whole ? same : whole;
    }
    struct prefix_match match = prefix_find(&tree, wanted, count, kinds);
    assert_int_equal(match.length, longest);
    assert_int_equal(match.mark != NULL, longest > 0);
    if (match.mark) {
        unsigned i = 0;
        while (&model[i].mark != match.mark)
            i++;
        assert_true(kinds & PREFIX_BIT(model[i].mark.kind));
        assert_true(common(model[i].tokens, model[i].count, wanted, count) == longest);
    }
    assert_int_equal(prefix_find_whole(&tree, wanted, count, kinds).length, whole);
}

static void agrees_with_a_plain_search(void **state)
{
    (void)state;
    random_state = 42;
    prefix_tree_init(&tree);
    memset(model, 0, sizeof model);
    for (unsigned step = 0; step < 60000; step++) {
        change_one();
        compare_lookups();
    }
    for (unsigned i = 0; i < MARKS; i++)
        prefix_cut(&tree, &model[i].mark, 0);
    assert_int_equal(tree.nodes, 0);
    prefix_tree_release(&tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sequence_alone_is_one_node),
        cmocka_unit_test(what_holders_share_is_there_once),
        cmocka_unit_test(whole_holders_only),
        cmocka_unit_test(agrees_with_a_plain_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
