/* Intrusive doubly linked list with a sentinel: embed a struct list in the element, one more as the head. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_insert_before(struct list *at, struct list *l)
{
    l->prev = at->prev;
    l->next = at;
    at->prev->next = l;
    at->prev = l;
}

static inline void list_push(struct list *head, struct list *l) /* to the end */
{
    list_insert_before(head, l);
}

static inline void list_push_front(struct list *head, struct list *l)
{
    list_insert_before(head->next, l);
}

static inline void list_remove(struct list *l) /* safe to repeat */
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    list_init(l);
}

#define container_of(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))
#define list_first(head, type, member)      container_of((head)->next, type, member)

/* Safe against removal of the current element, and of no other. */
#define list_each(var, head, type, member)                                                                             \
    for (type *var = list_first(head, type, member), *var##_next = container_of(var->member.next, type, member);       \
         &var->member != (head); var = var##_next, var##_next = container_of(var->member.next, type, member))

#endif
