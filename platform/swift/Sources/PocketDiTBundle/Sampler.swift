import Foundation

/// The samplers of platform/pocketdit/diffusion/samplers.py.
public enum Sampler: String, Decodable, Sendable {
    case euler, heun
    case dpmpp2M = "dpmpp_2m"
}

/// Returns `steps` + 1 times from 1 to 0 that are evenly spaced before the time shift. `steps` must be positive.
public func uniformTimes(steps: Int, shift: Double) -> [Double] {
    (0...steps).map { step in
        let time = 1 - Double(step) / Double(steps)
        return shift * time / (1 + (shift - 1) * time)
    }
}

/// Samples latents. Throws an error if the task is canceled.
///
/// - Parameters:
///   - sampler: The sampler.
///   - noise: The latents at time 1.
///   - times: Times that decrease from 1 (noise) to 0 (image).
///   - velocity: The network, a function of latents and time that returns as many elements as there are latents.
public func sample(
    _ sampler: Sampler, noise: [Float], times: [Double], velocity: ([Float], Double) async throws -> [Float]
) async throws -> [Float] {
    guard times.count >= 2, times.last == 0, zip(times, times.dropFirst()).allSatisfy({ $0 > $1 }) else {
        throw BundleError.invalidArgument("times: must decrease and end at 0, not \(times)")
    }
    var x = noise
    var previous: [Float]?
    var previousH = 0.0
    for (start, end) in zip(times, times.dropFirst()) {
        try Task.checkCancellation()
        let v = try await velocity(x, start)
        switch sampler {
        case .euler:
            x = moved(x, v, Float(end - start))
        case .heun:
            let predicted = moved(x, v, Float(end - start))
            guard end > 0 else {
                x = predicted
                break
            }
            let w = try await velocity(predicted, end)
            x = moved(x, zip(v, w).map { ($0 + $1) / 2 }, Float(end - start))
        case .dpmpp2M:
            let data = moved(x, v, -Float(start))
            var estimate = data
            var h = 0.0
            if start < 1 && end > 0 {
                h = logSNR(end) - logSNR(start)
                if let previous, previousH != 0 {
                    let ratio = Float(h / previousH / 2)
                    estimate = zip(data, previous).map { $0 + ratio * ($0 - $1) }
                }
            }
            let kept = Float(end / start), added = Float(1 - end / start)
            x = zip(x, estimate).map { kept * $0 + added * $1 }
            previous = data
            previousH = h
        }
    }
    return x
}

private func moved(_ x: [Float], _ v: [Float], _ step: Float) -> [Float] {
    zip(x, v).map { $0 + step * $1 }
}

private func logSNR(_ time: Double) -> Double {
    log1p(-time) - log(time)
}
