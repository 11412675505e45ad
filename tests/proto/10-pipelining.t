# Several requests of one connection, sent before the first is answered.

== pipelining: answers in order, the bodies between the requests understood
> POST /echo HTTP/1.1
> Host: localhost
> Content-Length: 3
>
> abcGET /b HTTP/1.1
> Host: localhost
>
> POST /echo HTTP/1.1
> Host: localhost
> Transfer-Encoding: chunked
>
> 3;x=y
> abc
> 2
> de
> 0
> T: 1
>
> GET /d HTTP/1.1
> Host: localhost
> Connection: close
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 3
<
< abcHTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
<
< /bHTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 5
<
< abcdeHTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /d

== a body that nobody wanted is read over
> POST /a HTTP/1.1
> Host: localhost
> Content-Length: 5
>
> GET /GET /b HTTP/1.1
> Host: localhost
> Connection: close
>
< HTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
<
< /aHTTP/1.1 200 OK
< Content-Type: text/plain
< Content-Length: 2
< Connection: close
<
<| /b
