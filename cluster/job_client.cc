#include "cluster/job_client.h"

#include <unistd.h>

#include "cluster/handshake.h"
#include "cluster/run_files.h"
#include "cluster/tcp_transport.h"

namespace dtrain {

StatusOr<std::string> AskJob(const std::string& run_directory, std::string_view query, Deadline deadline) {
  const std::string what = Cat("ask the job in ", run_directory);
  ASSIGN_OR_RETURN(const ControlFile control, ReadControlFile(run_directory));
  TcpTransport transport;
  auto link = transport.Connect(control.coordinator, deadline);
  if (!link.ok()) {
    if (link.status().code() != StatusCode::kUnavailable) return Annotate(link.status(), what);
    return FailedPrecondition(what, ": no job runs there any more; its launcher ended without tidying up (", Message(link.status()), ")");
  }
  const Hello hello{.role = PeerRole::kClient, .pid = getpid(), .host = HostName()};
  RETURN_IF_ERROR(Annotate(Introduce(**link, control.token, hello, deadline).status(), what));
  RETURN_IF_ERROR(Annotate(SendMessage(**link, Query{std::string(query)}, deadline), what));
  auto message = ReceiveMessage(**link, deadline);
  if (!message.ok()) return Annotate(message.status(), what);
  const auto* answer = std::get_if<Answer>(&*message);
  if (answer == nullptr) return DataLoss(what, ": found ", NameOf(*message), ", expected Answer");
  if (!answer->ok) return InvalidArgument(what, ": ", answer->text);
  return answer->text;
}

}  // namespace dtrain
