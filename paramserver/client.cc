#include "paramserver/client.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"

namespace dtrain::ps {

Client::Client(const ClientOptions& options, Table table, std::vector<float> initial)
    : options_(options),
      table_(std::move(table)),
      layout_(table_.layout()),
      sharding_(PlanSharding(table_, layout_)),
      parameters_(static_cast<size_t>(layout_.elements)),
      initial_(std::move(initial)),
      read_versions_(sharding_.chunks.size(), 0),
      spare_(parameters_.size()),
      servers_(static_cast<size_t>(table_.servers)) {
  DTRAIN_CHECK(initial_.empty() || initial_.size() == parameters_.size());
}

void Client::SetView(int64_t view, uint64_t incarnation, TimePoint now) {
  if (view <= view_ && incarnation == incarnation_ && !paused_) return;
  view_ = view;
  incarnation_ = incarnation;
  paused_ = false;
  for (Server& server : servers_) {
    server.queue.clear();
    server.bytes_under_way = 0;
    for (auto& [key, request] : server.requests) {
      request.due = std::min(request.due, now);
      request.asked.reset();
      request.pause = options_.retry_min;
      request.queued = false;
      request.under_way = 0;
    }
  }
  Tick(now);
}

void Client::Restart() {
  for (Server& server : servers_) server = {};
  incoming_.reset();
  closing_.clear();
  chunks_left_.clear();
  std::ranges::fill(read_versions_, 0);
  sends_.clear();
  joining_ = false;
}

void Client::Join(TimePoint now) {
  joining_ = true;
  for (int server = 0; server < table_.servers; ++server) Ask(server, {Kind::kRegister, 0, 0, 0, 0}, Register{table_}, now);
  Tick(now);
}

void Client::Await(Step step, TimePoint now) {
  if (!incoming_ || incoming_->step != step) BeginIncoming(step, now);
  incoming_->awaited = true;
  MaybeReady();
  Tick(now);
}

void Client::BeginIncoming(Step step, TimePoint pull_at) {
  if (incoming_) spare_ = std::move(incoming_->parameters);
  incoming_ = Incoming{};
  incoming_->step = step;
  incoming_->parameters = std::move(spare_);
  incoming_->parameters.resize(parameters_.size());
  incoming_->missing = static_cast<int64_t>(sharding_.chunks.size());
  incoming_->versions.assign(sharding_.chunks.size(), -1);
  // Within the bound servers may be steps apart. Whoever catches up after a restart takes the newest of one that is ahead: what
  // it pushes there is of closed steps.
  const int64_t latest = bound() > 0 ? std::numeric_limits<int64_t>::max() : step;
  for (size_t c = 0; c < sharding_.chunks.size(); ++c) {
    // Asynchronous reads never go back.
    const std::pair<int64_t, int64_t> window = options_.mode == Mode::kAsync
                                                   ? std::pair(read_versions_[c], std::numeric_limits<int64_t>::max())
                                                   : std::pair(std::max<int64_t>(0, step - bound()), latest);
    incoming_->window.push_back(window);
    const Chunk& chunk = sharding_.chunks[c];
    Ask(chunk.server, {Kind::kPull, 0, 0, 0, static_cast<int>(c)}, Pull{chunk.range.begin, window.first, window.second}, pull_at);
  }
}

void Client::Push(const Work& work, const Gradient& gradient, double scale, TimePoint now) {
  DTRAIN_CHECK(gradient != nullptr && gradient->size() == parameters_.size());
  for (size_t c = 0; c < sharding_.chunks.size(); ++c) {
    const Chunk& chunk = sharding_.chunks[c];
    const ps::Push push{work, chunk.range.begin, read_versions_[c], scale};
    Ask(chunk.server, PushKey(work, static_cast<int>(c)), push, now, gradient);
  }
  if (options_.mode == Mode::kAsync) {
    chunks_left_[{work.epoch, work.step}] = static_cast<int64_t>(sharding_.chunks.size());
    // Each answer brings the chunk's new parameters along; what gets lost is asked for.
    BeginIncoming(0, now + options_.retry_min);
  }
  Tick(now);
}

void Client::Finish(Step step, const SubTree& unit, double weight, double loss_sum, bool finite, TimePoint now) {
  const bool want = bound() == 0;
  closing_[step].finished = true;
  for (int server = 0; server < table_.servers; ++server) {
    Ask(server, {Kind::kFinish, 0, step, unit.first_leaf(), 0}, ps::Finish{step, unit, weight, loss_sum, finite, want}, now);
  }
  if (want && (!incoming_ || incoming_->step != step + 1)) BeginIncoming(step + 1, now + options_.retry_max);
  Tick(now);
}

void Client::Claim(Step step, double weight, TimePoint now) {
  Ask(0, {Kind::kClaim, 0, step, 0, 0}, ps::Claim{step, weight}, now);
  Tick(now);
}

void Client::Ask(int server, const Key& key, Body body, TimePoint due, Gradient gradient) {
  Server& to = servers_[static_cast<size_t>(server)];
  if (const auto old = to.requests.find(key); old != to.requests.end()) to.bytes_under_way -= old->second.under_way;
  to.requests[key] = {.body = std::move(body), .gradient = std::move(gradient), .due = due, .asked = {}, .pause = options_.retry_min};
}

void Client::Send(int server, const Key& key, Request& request, TimePoint now) {
  request.queued = false;
  if (!request.asked) request.asked = now;
  request.due = now + request.pause;
  request.pause = std::min(2 * request.pause, options_.retry_max);
  ClientSend send{server, {{options_.job, view_, options_.worker, incarnation_, table_.version}, request.body, {}}};
  const int chunk = std::get<4>(key);
  if (CarriesElements(request.body)) {
    const ElementRange range = sharding_.chunks[static_cast<size_t>(chunk)].range;
    const std::vector<float>& flat = request.gradient ? *request.gradient : initial_;
    send.message.elements = std::span(flat).subspan(static_cast<size_t>(range.begin), static_cast<size_t>(range.size()));
    const auto bytes = static_cast<int64_t>(send.message.elements.size_bytes());
    servers_[static_cast<size_t>(server)].bytes_under_way += bytes - request.under_way;
    request.under_way = bytes;
  }
  sends_.push_back(std::move(send));
}

void Client::Pump(int server, TimePoint now) {
  Server& to = servers_[static_cast<size_t>(server)];
  while (!to.queue.empty()) {
    const Key key = to.queue.front();
    const auto found = to.requests.find(key);
    if (found != to.requests.end() && found->second.queued) {
      const auto bytes = sharding_.chunks[static_cast<size_t>(std::get<4>(key))].range.size() * static_cast<int64_t>(sizeof(float));
      const int64_t others = to.bytes_under_way - found->second.under_way;
      if (others > 0 && others + bytes > options_.window_bytes) return;
      Send(server, key, found->second, now);
    }
    to.queue.pop_front();
  }
}

void Client::Tick(TimePoint now) {
  if (paused_ || failed_) return;
  for (int number = 0; number < table_.servers; ++number) {
    Server& server = servers_[static_cast<size_t>(number)];
    for (auto& [key, request] : server.requests) {
      if (request.due > now || request.queued) continue;
      if (request.asked && now - std::max(*request.asked, server.heard) >= options_.silence_max) {
        const Message what{{}, request.body, {}};
        return Fail(DeadlineExceeded("ask server ", number, " (", NameOf(what), " of step ", std::get<2>(key),
                                     "): no answer to anything for ", HumanSeconds(Seconds(now - std::max(*request.asked, server.heard)))));
      }
      // What is under way already has its place in the window; behind others in the queue it would wait for itself.
      if (CarriesElements(request.body) && request.under_way == 0) {
        request.queued = true;
        server.queue.push_back(key);
      } else {
        Send(number, key, request, now);
      }
    }
    Pump(number, now);
  }
}

TimePoint Client::NextTick() const {
  TimePoint next = TimePoint::max();
  if (paused_ || failed_) return next;
  for (const Server& server : servers_) {
    for (const auto& [key, request] : server.requests) {
      if (!request.queued) next = std::min(next, request.due);
    }
  }
  return next;
}

void Client::Fail(Status status) {
  if (failed_) return;
  failed_ = true;
  events_.push_back(ClientFailed{std::move(status)});
}

void Client::Answered(int server, const Key& key) {
  Server& from = servers_[static_cast<size_t>(server)];
  const auto found = from.requests.find(key);
  if (found == from.requests.end()) return;
  from.bytes_under_way -= found->second.under_way;
  from.requests.erase(found);
}

void Client::PutOff(int server, const Key& key, Duration pause, TimePoint now) {
  Server& from = servers_[static_cast<size_t>(server)];
  const auto found = from.requests.find(key);
  if (found == from.requests.end()) return;
  from.bytes_under_way -= found->second.under_way;
  found->second.under_way = 0;
  found->second.due = now + pause;
}

void Client::Receive(int server, const Message& message, TimePoint now) {
  if (failed_ || server < 0 || server >= table_.servers) return;
  if (message.sender.job != options_.job || message.sender.worker != kNoWorker) return;
  servers_[static_cast<size_t>(server)].heard = now;
  if (const auto* wrong = std::get_if<WrongView>(&message.body)) {
    // A lower number than ours: the server has not been told of our view yet, we ask again.
    if (wrong->sent_in == view_ && message.sender.view >= view_ && !paused_) {
      paused_ = true;
      events_.push_back(ViewChanged{message.sender.view});
    }
    return;
  }
  // What was said in another view may be about work that has been rolled back since.
  if (message.sender.view != view_ || paused_) return;
  if (const auto* answer = std::get_if<PushAnswer>(&message.body)) {
    OnPushAnswer(server, *answer, now);
  } else if (const auto* parameters = std::get_if<Parameters>(&message.body)) {
    TakeParameters(server, *parameters, message.elements, now);
  } else if (const auto* later = std::get_if<PullLater>(&message.body)) {
    if (const int chunk = sharding_.chunk_at(later->offset); chunk >= 0)
      PutOff(server, {Kind::kPull, 0, 0, 0, chunk}, options_.retry_max, now);
  } else if (const auto* passed = std::get_if<Passed>(&message.body)) {
    OnPassed(server, *passed, now);
  } else if (const auto* report = std::get_if<Closed>(&message.body)) {
    OnClosed(server, *report, now);
  } else if (const auto* sums = std::get_if<Sums>(&message.body)) {
    OnSums(server, *sums, now);
  } else if (const auto* granted = std::get_if<Granted>(&message.body)) {
    Answered(server, {Kind::kClaim, 0, granted->step, 0, 0});
    events_.push_back(ClaimAnswered{granted->step, granted->slot});
  } else if (std::holds_alternative<Registered>(message.body)) {
    OnRegistered(server, message, now);
  } else if (const auto* taken = std::get_if<InitialTaken>(&message.body)) {
    if (const int chunk = sharding_.chunk_at(taken->offset); chunk >= 0) Answered(server, {Kind::kInitial, 0, 0, 0, chunk});
  } else if (const auto* table = std::get_if<WrongTable>(&message.body)) {
    paused_ = true;
    events_.push_back(TableChanged{table->table});
  } else if (const auto* refused = std::get_if<Refused>(&message.body)) {
    OnRefused(server, *refused);
  }
  Tick(now);
}

void Client::OnRefused(int server, const Refused& refused) {
  for (const auto& [key, request] : servers_[static_cast<size_t>(server)].requests) {
    if (!request.asked || static_cast<int32_t>(request.body.index()) != refused.kind) continue;
    const Refused asked = RefusalOf({{}, request.body, {}}, OkStatus());
    if (asked.step != refused.step || asked.offset != refused.offset) continue;
    return Fail(Status(static_cast<StatusCode>(refused.code), Cat("server ", server, " refused: ", refused.why)));
  }
}

void Client::OnRegistered(int server, const Message& message, TimePoint now) {
  Server& from = servers_[static_cast<size_t>(server)];
  const Registered& answer = std::get<Registered>(message.body);
  const Key key{Kind::kRegister, 0, 0, 0, 0};
  if (!joining_ || !from.requests.contains(key)) return;
  if (answer.ready) {
    Answered(server, key);
    from.registered = true;
    joined_version_ = std::max(joined_version_, answer.version);
    if (!std::ranges::all_of(servers_, &Server::registered)) return;
    joining_ = false;
    events_.push_back(Joined{joined_version_});
    return;
  }
  // The table is there and the values are missing: they are worker 0's to send, once; then it asks again.
  if (options_.worker != 0 || message.sender.table != table_.version || initial_.empty()) return;
  const auto [first, end] = sharding_.chunks_of(server);
  for (int c = first; c < end; ++c) {
    const Key initial{Kind::kInitial, 0, 0, 0, c};
    if (!from.requests.contains(initial)) Ask(server, initial, Initial{sharding_.chunks[static_cast<size_t>(c)].range.begin}, now);
  }
}

void Client::OnPushAnswer(int server, const PushAnswer& answer, TimePoint now) {
  const int chunk = sharding_.chunk_at(answer.offset);
  if (chunk < 0) return;
  const Key key = PushKey(answer.work, chunk);
  if (!servers_[static_cast<size_t>(server)].requests.contains(key)) return;
  switch (answer.outcome) {
    case PushOutcome::kTaken:
    case PushOutcome::kClosed:
      Answered(server, key);
      if (const auto left = chunks_left_.find({answer.work.epoch, answer.work.step}); left != chunks_left_.end() && --left->second == 0) {
        chunks_left_.erase(left);
        events_.push_back(PushTaken{answer.work});
      }
      return;
    case PushOutcome::kHeld:
      return PutOff(server, key, options_.retry_max, now);
    case PushOutcome::kLater:
      // Synchronous, its turn is announced; asynchronous, a reader is in the way for a moment.
      return PutOff(server, key, options_.mode == Mode::kAsync ? options_.retry_min : options_.retry_max, now);
    case PushOutcome::kNow:
      // The step waits for it, so it goes before all that only might be early.
      PutOff(server, key, Duration::zero(), now);
      servers_[static_cast<size_t>(server)].requests.at(key).queued = true;
      return servers_[static_cast<size_t>(server)].queue.push_front(key);
  }
}

void Client::TakeParameters(int, const Parameters& parameters, std::span<const float> elements, TimePoint) {
  const int chunk = sharding_.chunk_at(parameters.offset);
  if (!incoming_ || chunk < 0 || static_cast<int64_t>(elements.size()) != sharding_.chunks[static_cast<size_t>(chunk)].range.size()) return;
  const auto [min, max] = incoming_->window[static_cast<size_t>(chunk)];
  int64_t& have = incoming_->versions[static_cast<size_t>(chunk)];
  if (parameters.version < min || parameters.version > max || parameters.version <= have) return;
  if (have < 0) --incoming_->missing;
  have = parameters.version;
  std::ranges::copy(elements, incoming_->parameters.begin() + sharding_.chunks[static_cast<size_t>(chunk)].range.begin);
  Answered(sharding_.chunks[static_cast<size_t>(chunk)].server, {Kind::kPull, 0, 0, 0, chunk});
  MaybeReady();
}

void Client::MaybeReady() {
  if (!incoming_ || !incoming_->awaited || incoming_->missing > 0) return;
  // A step begins when the one that it may be ahead of is known to be closed everywhere: then its report is there, too.
  if (!options_.backup_workers && !closing_.empty() && closing_.begin()->first < incoming_->step - bound()) return;
  spare_ = std::exchange(parameters_, std::move(incoming_->parameters));
  read_versions_ = incoming_->versions;
  const auto [min, max] = std::ranges::minmax(read_versions_);
  events_.push_back(ParametersReady{incoming_->step, min, max});
  incoming_.reset();
}

// Synchronous: too late for this version. With backup workers the others did without us, so we follow them.
void Client::OnPassed(int, const Passed& passed, TimePoint now) {
  if (!incoming_ || passed.version <= incoming_->step) return;
  if (!options_.backup_workers) {
    return Fail(FailedPrecondition("pull the parameters of step ", incoming_->step, ": the servers are at ", passed.version,
                                   " already, so this worker must begin again"));
  }
  const bool awaited = incoming_->awaited;
  BeginIncoming(passed.version, now);
  incoming_->awaited = awaited;
}

void Client::OnClosed(int server, const Closed& report, TimePoint now) {
  Server& from = servers_[static_cast<size_t>(server)];
  // Nothing of this step is to be said to this server any more.
  for (auto request = from.requests.begin(); request != from.requests.end();) {
    const auto [kind, epoch, step, leaf, chunk] = request->first;
    const Key key = request->first;
    ++request;
    if (step == report.step && (kind == Kind::kPush || kind == Kind::kFinish || kind == Kind::kClose)) Answered(server, key);
  }
  const auto found = closing_.find(report.step);
  if (found == closing_.end()) return;
  found->second.closed[server] = report;
  if (found->second.closed.size() < servers_.size()) {
    if (report.has_square_sum) AskToClose(report.step, report.square_sum, now);
    return;
  }
  if (found->second.finished) events_.push_back(StepClosed{report});
  closing_.erase(found);
  MaybeReady();
  // The parameters follow; if they get lost, this is when they are missed.
  for (auto& it : servers_) {
    for (auto& [key, request] : it.requests) {
      if (std::get<0>(key) == Kind::kPull && !request.asked) request.due = std::min(request.due, now + options_.retry_min);
    }
  }
}

void Client::OnSums(int server, const Sums& sums, TimePoint now) {
  const auto found = closing_.find(sums.step);
  if (found == closing_.end()) return;
  found->second.parts[server] = sums.parts;
  for (const auto& [number, report] : found->second.closed) {  // another worker joined them already
    if (report.has_square_sum) return AskToClose(sums.step, report.square_sum, now);
  }
  if (found->second.parts.size() < servers_.size()) return;
  std::vector<SumPart> parts;
  for (const auto& [number, of_server] : found->second.parts) parts.insert(parts.end(), of_server.begin(), of_server.end());
  const auto square_sum = JoinParts(parts, static_cast<int64_t>(layout_.blocks.size()));
  if (!square_sum.ok()) return Fail(Annotate(square_sum.status(), Cat("close step ", sums.step)));
  AskToClose(sums.step, *square_sum, now);
}

void Client::AskToClose(Step step, double square_sum, TimePoint now) {
  for (int server = 0; server < table_.servers; ++server) {
    const Key key{Kind::kClose, 0, step, 0, 0};
    if (closing_.at(step).closed.contains(server) || servers_[static_cast<size_t>(server)].requests.contains(key)) continue;
    // A server that has not told us its sums may not have them yet.
    if (closing_.at(step).parts.contains(server)) Ask(server, key, Close{step, square_sum}, now);
  }
}

}  // namespace dtrain::ps
