# Messages whose end two readers could see in different places: one answer, and the end of the connection.

== a length and chunks at once
> POST /echo HTTP/1.1
> Host: localhost
> Content-Length: 5
> Transfer-Encoding: chunked
>
> 0
>
> GET /x HTTP/1.1
> Host: localhost
>
< HTTP/1.1 400 Bad Request
< Content-Type: text/plain
< Content-Length: 11
< Connection: close
<
<| bad_request

== the same length twice
> POST /echo HTTP/1.1
> Host: localhost
> Content-Length: 3
> Content-Length: 3
>
>| abc
< HTTP/1.1 400 Bad Request
< Content-Type: text/plain
< Content-Length: 11
< Connection: close
<
<| bad_request

== a transfer coding nearly called chunked
> POST /echo HTTP/1.1
> Host: localhost
> Transfer-Encoding: xchunked
>
> 0
>
< HTTP/1.1 501 Not Implemented
< Content-Type: text/plain
< Content-Length: 15
< Connection: close
< x-should-retry: false
<
<| not_implemented
